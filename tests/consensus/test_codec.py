"""Canonical bytes: one encoding per value, every other byte string refused, vectors pinned."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.codec import Domain, Reader, decode_whole, signing_bytes
from consensus.errors import InvalidMessage
from consensus.messages import (
    MAX_BLOCKS_PER_REPLY,
    MAX_KIND,
    BlockReply,
    BlockRequest,
    Certificates,
    CommitVote,
    Message,
    Proposal,
    SyncReply,
    SyncRequest,
    Timeout,
    Vote,
    decode,
)
from consensus.types import (
    MAX_BITMAP_BYTES,
    MAX_BLOCK_COLLECTIONS,
    Block,
    CommitCertificate,
    CommitProof,
    QuorumCertificate,
    TimeoutCertificate,
    bitmap_of,
    genesis_block,
    genesis_qc,
    members_of,
)

CHAIN = sha256(b"chain").digest()
U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
HASHES = st.binary(min_size=32, max_size=32)
BITMAPS = st.binary(max_size=8)
SIGNATURES = st.binary(max_size=96)

QCS = st.builds(QuorumCertificate, U64, U64, HASHES, BITMAPS, SIGNATURES)
COMMITS = st.builds(CommitCertificate, U64, U64, U64, HASHES, HASHES, BITMAPS, SIGNATURES)
NAMED = st.dictionaries(U32, U64, min_size=1, max_size=5).map(
    lambda named: tuple(sorted(named.items()))
)
TCS = st.builds(TimeoutCertificate, U64, U64, NAMED, SIGNATURES, QCS)
BLOCKS = st.builds(
    Block,
    U64,
    U64,
    U64,
    HASHES,
    QCS,
    st.none() | TCS,
    st.lists(HASHES, max_size=4).map(tuple),
    st.binary(max_size=20),
    U64,
    U32,
)
PROOFS = st.builds(CommitProof, COMMITS, st.none(), st.none()) | st.builds(
    CommitProof, st.none(), BLOCKS, QCS
)
CERTIFICATES = st.builds(Certificates, QCS, st.none() | TCS, st.none() | COMMITS)
SOME_BLOCKS = st.lists(BLOCKS, max_size=3).map(tuple)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Proposal, BLOCKS, st.binary(max_size=64)),
    st.builds(Vote, U64, U64, HASHES, U32, SIGNATURES),
    st.builds(CommitVote, U64, U64, U64, HASHES, HASHES, U32, SIGNATURES),
    st.builds(Timeout, U64, U64, U64, U32, SIGNATURES, CERTIFICATES),
    CERTIFICATES,
    st.builds(BlockRequest, HASHES, U64),
    st.builds(BlockReply, SOME_BLOCKS),
    st.builds(SyncRequest, U64),
    st.builds(SyncReply, U64, SOME_BLOCKS, st.none() | PROOFS),
)


@given(MESSAGES)
def test_decoding_an_encoded_message_gives_it_back(message: Message) -> None:
    assert decode(message.encode()) == message


@given(BLOCKS)
def test_a_decoded_block_has_the_same_id(block: Block) -> None:
    read = Block.decode(block.encode())
    assert read == block
    assert read.id == block.id == sha256(Domain.BLOCK_ID.value + block.encode()).digest()


@given(QCS, COMMITS, TCS, PROOFS)
def test_certificates_read_back(
    qc: QuorumCertificate, commit: CommitCertificate, tc: TimeoutCertificate, proof: CommitProof
) -> None:
    assert decode_whole(qc.encode(), QuorumCertificate.read) == qc
    assert decode_whole(commit.encode(), CommitCertificate.read) == commit
    assert decode_whole(tc.encode(), TimeoutCertificate.read) == tc
    assert decode_whole(proof.encode(), CommitProof.read) == proof


def returns_or_refuses(data: bytes) -> None:
    try:
        message = decode(data)
    except InvalidMessage:
        return
    assert message.encode() == data


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes_decode_or_raise_invalid_message(data: bytes) -> None:
    returns_or_refuses(data)


@settings(max_examples=300)
@given(st.integers(0, MAX_KIND + 1), st.binary(max_size=600))
def test_any_bytes_behind_a_kind_decode_or_raise_invalid_message(kind: int, data: bytes) -> None:
    returns_or_refuses(bytes([kind]) + data)


@settings(max_examples=300)
@given(MESSAGES, st.data())
def test_a_changed_message_is_another_or_refused(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(message.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] = data.draw(st.integers(0, 255))
    returns_or_refuses(bytes(encoded))


@given(MESSAGES, st.data())
def test_a_cut_message_is_refused(message: Message, data: st.DataObject) -> None:
    encoded = message.encode()
    with pytest.raises(InvalidMessage):
        decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(MESSAGES, st.binary(min_size=1, max_size=5))
def test_bytes_behind_a_message_are_refused(message: Message, more: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(message.encode() + more)


def test_an_unknown_kind_is_refused() -> None:
    for kind in (0, MAX_KIND + 1, 255):
        with pytest.raises(InvalidMessage, match=f"unknown message kind {kind}"):
            decode(bytes([kind]))
    with pytest.raises(InvalidMessage):
        decode(b"")


QC = QuorumCertificate(1, 2, b"\3" * 32, b"\7", b"\5" * 96)
TC = TimeoutCertificate(1, 9, ((0, 2), (2, 1), (3, 2)), b"\6" * 96, QC)
COMMIT = CommitCertificate(1, 2, 3, b"\4" * 32, bytes(32), b"\7", b"\7" * 96)
BLOCK = Block(1, 10, 4, b"\3" * 32, QC, TC, (b"\x0a" * 32, b"\x0b" * 32), b"att", 1234567890123, 2)


def test_counts_and_sizes_beyond_their_limits_are_refused() -> None:
    def block_with(collections: int = 0, attestation: int = 0, bitmap: int = 0) -> bytes:
        qc = QuorumCertificate(0, 0, bytes(32), bytes(bitmap), b"")
        digests = tuple(index.to_bytes(32, "big") for index in range(collections))
        return Block(0, 0, 0, bytes(32), qc, None, digests, bytes(attestation), 0, 0).encode()

    assert len(Block.decode(block_with(MAX_BLOCK_COLLECTIONS, 256, MAX_BITMAP_BYTES)).id) == 32
    for data in (
        block_with(collections=MAX_BLOCK_COLLECTIONS + 1),
        block_with(attestation=257),
        block_with(bitmap=MAX_BITMAP_BYTES + 1),
    ):
        with pytest.raises(InvalidMessage, match="are allowed"):
            Block.decode(data)
    assert decode(BlockReply((BLOCK,) * MAX_BLOCKS_PER_REPLY).encode())
    with pytest.raises(InvalidMessage, match="are allowed"):
        decode(BlockReply((BLOCK,) * (MAX_BLOCKS_PER_REPLY + 1)).encode())
    with pytest.raises(InvalidMessage, match="97 bytes where 96"):
        decode(Vote(0, 0, bytes(32), 0, bytes(97)).encode())
    with pytest.raises(InvalidMessage, match="65 bytes where 64"):
        decode(Proposal(BLOCK, bytes(65)).encode())


def test_a_huge_count_costs_nothing() -> None:
    with pytest.raises(InvalidMessage):
        decode(bytes([BlockReply.kind]) + b"\xff\xff\xff\xff")
    with pytest.raises(InvalidMessage):
        decode(BlockReply((BLOCK,)).encode()[:1] + b"\0\0\0\x40")


@pytest.mark.parametrize("named", [(), ((1, 5), (0, 5)), ((1, 5), (1, 5)), ((1, 5), (1, 6))])
def test_a_tc_whose_signers_are_not_ascending_is_refused(
    named: tuple[tuple[int, int], ...],
) -> None:
    with pytest.raises(InvalidMessage, match="ascending"):
        decode_whole(TimeoutCertificate(1, 9, named, b"", QC).encode(), TimeoutCertificate.read)


@pytest.mark.parametrize("flag", [2, 255])
def test_a_flag_is_zero_or_one(flag: int) -> None:
    data = bytearray(Certificates(QC, None, None).encode())
    data[-1] = flag
    with pytest.raises(InvalidMessage, match="flag byte"):
        decode(bytes(data))


def test_a_commit_proof_is_one_of_two() -> None:
    for wrong in ((None, None, None), (COMMIT, BLOCK, QC), (None, BLOCK, None), (None, None, QC)):
        with pytest.raises(InvalidMessage):
            CommitProof(*wrong)
    with pytest.raises(InvalidMessage, match="kind 2"):
        decode_whole(b"\2", CommitProof.read)


def test_the_id_covers_every_field() -> None:
    changes: dict[str, object] = {
        "epoch": 2,
        "round": 11,
        "height": 5,
        "parent_id": b"\4" * 32,
        "qc": genesis_qc(CHAIN),
        "tc": None,
        "collections": (b"\x0b" * 32, b"\x0a" * 32),
        "attestation": b"",
        "timestamp_ms": 1,
        "author": 3,
    }
    from dataclasses import fields, replace

    assert set(changes) == {item.name for item in fields(Block)} - {"id"}
    ids = {replace(BLOCK, **{name: value}).id for name, value in changes.items()}  # type: ignore[arg-type]
    assert len(ids | {BLOCK.id}) == len(changes) + 1


def test_domains_are_sixteen_bytes_and_differ() -> None:
    values = [domain.value for domain in Domain]
    assert len(set(values)) == len(values)
    assert {len(value) for value in values} == {16}


def test_no_two_kinds_of_signed_bytes_are_equal() -> None:
    signed = [
        Proposal.signed_bytes(CHAIN, BLOCK),
        QuorumCertificate.signed_bytes(CHAIN, 1, 2, b"\3" * 32),
        CommitCertificate.signed_bytes(CHAIN, 1, 2, 3, b"\4" * 32, bytes(32)),
        TimeoutCertificate.signed_bytes(CHAIN, 1, 9, 2),
    ]
    assert len({data[:16] for data in signed}) == len(signed)
    assert all(data[16:48] == CHAIN for data in signed)
    assert len(signed[2]) == 136


@given(st.lists(st.integers(0, 99), unique=True))
def test_bitmaps_name_their_members(members: list[int]) -> None:
    bitmap = bitmap_of(members, 100)
    assert members_of(bitmap) == sorted(members)
    assert len(bitmap) == 13


def test_a_reader_reads_once_from_front_to_back() -> None:
    reader = Reader(bytes(range(1, 14)))
    assert (reader.u8(), reader.u32(), reader.u64()) == (1, 0x02030405, 0x060708090A0B0C0D)
    reader.end()
    with pytest.raises(InvalidMessage, match="1 bytes early"):
        reader.u8()


# --- pinned: a change here is another protocol ------------------------------------------------

VECTORS: dict[str, tuple[Message, int, str]] = {
    "Proposal": (
        Proposal(BLOCK, b"\x08" * 64),
        675,
        "439095e0f6b237354054a34837f4fbe1c3cc5814f0e5484aa04ae2d894fb2c51",
    ),
    "Vote": (
        Vote(1, 2, b"\3" * 32, 4, b"\5" * 96),
        153,
        "577a7033f3eb0372938d9a01a55be5465640b59b559649956dae67994bb238bf",
    ),
    "CommitVote": (
        CommitVote(1, 2, 3, b"\4" * 32, bytes(32), 1, b"\5" * 96),
        193,
        "4826de3acd9c1721462870e868e02c863d64266e4c0f29faf452226a55ff1b10",
    ),
    "Timeout": (
        Timeout(1, 9, 2, 3, b"\6" * 96, Certificates(QC, TC, COMMIT)),
        786,
        "9952097949af6f3a9aa985168f96128a2eef206eda2f3c4c5dc18c82021e7175",
    ),
    "Certificates": (
        Certificates(QC, None, None),
        156,
        "8696733b60490875d0e8f98d6ec5e1f3529f8acc79bc963f648053acbc021e04",
    ),
    "BlockRequest": (
        BlockRequest(b"\3" * 32, 7),
        41,
        "eb73a5b32f736b8201f95c2f05ec6fae615fa9780566d0fc6da740a5f69aa1e4",
    ),
    "BlockReply": (
        BlockReply((BLOCK,)),
        611,
        "52b39b3dfc13b530eaa3331b55d92d552b686c58e8ebed506310193622272f1c",
    ),
    "SyncRequest": (
        SyncRequest(8),
        9,
        "39bbc53ea7b448731f34ae2a45cf36c648b050dcec8e99ed4f81b93f0f3d8bd5",
    ),
    "SyncReply": (
        SyncReply(9, (BLOCK,), CommitProof(None, BLOCK, QC)),
        1380,
        "313724215dcee03c3fdcab6a96fd7ef9efcd186d8d9e9e4a1d3ed1385616d25b",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_bytes_of_every_message_are_pinned(name: str) -> None:
    message, size, digest = VECTORS[name]
    assert (len(message.encode()), sha256(message.encode()).hexdigest()) == (size, digest)


def test_a_vote_byte_for_byte() -> None:
    vote = Vote(1, 2, b"\3" * 32, 4, b"\5" * 96)
    assert (
        vote.encode().hex()
        == ("02" + "0000000000000001" + "0000000000000002" + "03" * 32 + "00000004" + "00000060")
        + "05" * 96
    )
    signed = QuorumCertificate.signed_bytes(CHAIN, 1, 2, b"\3" * 32)
    assert signed == b"dseq/vote/1\0\0\0\0\0" + CHAIN + bytes(7) + b"\1" + bytes(7) + b"\2" + (
        b"\3" * 32
    )
    assert signed == signing_bytes(Domain.VOTE, CHAIN, 1, signed[56:])


def test_the_ids_of_blocks_are_pinned() -> None:
    assert BLOCK.id.hex() == "97bed889736ff1c48009a8bec8dde802c4915eb1f58920578e5521d8a8c31bba"
    genesis = genesis_block(CHAIN)
    assert genesis.id.hex() == "8eb5b31a3fe35dda4a9b8d231324e175f390b8c31a6b8f57ecfc94c56b207878"
    assert genesis_qc(CHAIN).block_id == genesis.id
