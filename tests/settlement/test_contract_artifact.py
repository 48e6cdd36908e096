"""What ships is what the sources compile to, and Python speaks its ABI."""

import json

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from sequencer.settlement import abi
from sequencer.settlement.batch import BatchHeader
from sequencer.settlement.contracts import compile as compiler
from sequencer.settlement.contracts import gas
from sequencer.settlement.encoding import expand_signature
from sequencer.settlement.registry_abi import RegistrySettings, encode_constructor
from testnet.l1.precompiles import NATIVE_BLS_PRECOMPILES
from tests.settlement.committees import committee, sign

HEADER = BatchHeader(
    chain_id=b"\x01" * 32,
    l1_chain_id=1337,
    contract=b"\x02" * 20,
    epoch=3,
    number=4,
    previous_log_root=b"\x05" * 32,
    first_position=6,
    last_position=8,
    log_root=b"\x07" * 32,
    data_hash=b"\x08" * 32,
    blob_hashes=b"\x09" * 32,
    entry_count=3,
    l1_origin=10,
    forced_index=11,
)
FIELDS = (
    "(bytes32,bytes32,uint256,address,uint64,uint64,bytes32,uint64,uint64,bytes32,bytes32,bytes32,"
    "uint64,uint64,uint64)"
)
SIGNATURE = sign(b"message", 4, [0, 1])


def test_recompiling_gives_the_shipped_artifact() -> None:
    assert json.loads(compiler.ARTIFACT.read_text()) == compiler.compile_contract()


def test_the_published_gas_is_what_things_cost() -> None:
    published = (compiler.HERE.parents[2] / "docs" / "gas.md").read_text()
    for head, line in ((gas.HEAD, gas.row), (gas.REGISTRY_HEAD, gas.registry_row)):
        assert head in published
        for size in gas.SIZES:
            assert line(size, NATIVE_BLS_PRECOMPILES) in published


def test_the_contract_fits_its_limits() -> None:
    settings = RegistrySettings(owner=bytes(20))
    arguments = encode_constructor(bytes(32), committee(128, 0, [2**32] * 128), settings)
    # EIP-3860
    assert len(abi.load_contract().bytecode) + len(arguments) <= 49_152


def test_the_header_is_the_abi_encoding_of_its_fields() -> None:
    h = HEADER
    fields = (
        b"dseq/batch/1".ljust(32, b"\0"),
        h.chain_id,
        h.l1_chain_id,
        "0x" + h.contract.hex(),
        h.epoch,
        h.number,
        h.previous_log_root,
        h.first_position,
        h.last_position,
        h.log_root,
        h.data_hash,
        h.blob_hashes,
        h.entry_count,
        h.l1_origin,
        h.forced_index,
    )
    assert h.encode() == encode([FIELDS], [fields])
    signature = [expand_signature(SIGNATURE)[at : at + 32] for at in range(0, 256, 32)]
    types = [FIELDS, "bytes", "bytes32[8]", "bytes"]
    selector = keccak(f"post_batch({','.join(types)})".encode())[:4]
    expected = selector + encode(types, [fields, b"\x07", signature, b"data"])
    assert abi.post_batch_calldata(h.encode(), b"\x07", SIGNATURE, b"data") == expected


@given(st.binary(min_size=1, max_size=16), st.binary(max_size=200))
def test_a_call_comes_back(bitmap: bytes, data: bytes) -> None:
    calldata = abi.post_batch_calldata(HEADER.encode(), bitmap, SIGNATURE, data)
    call = abi.decode_post_batch(calldata)
    assert call == (HEADER.encode(), bitmap, expand_signature(SIGNATURE), data)


@given(st.binary(max_size=1200), st.booleans())
def test_any_input_is_a_call_or_invalid(data: bytes, selected: bool) -> None:
    if selected:
        data = abi.post_batch_calldata(HEADER.encode(), b"\1", SIGNATURE, b"")[:4] + data
    with pytest.raises(ValueError, match=r"canonical|not a call"):
        abi.decode_post_batch(data)


@given(st.data())
def test_a_spoilt_call_is_another_call_or_invalid(data: st.DataObject) -> None:
    calldata = abi.post_batch_calldata(HEADER.encode(), b"\x07", SIGNATURE, b"some data")
    spoilt = bytearray(calldata)
    spoilt[data.draw(st.integers(0, len(calldata) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        call = abi.decode_post_batch(bytes(spoilt))
    except ValueError:
        return
    assert len(call.header) == 480
    assert len(call.signature) == 256
    assert call.data in calldata + bytes(32) or call.data != b"some data"


def test_calls_of_the_wrong_shape_are_not_built() -> None:
    header = HEADER.encode()
    for arguments in (
        (header[:-1], b"\x07", SIGNATURE, b"x"),
        (header, b"", SIGNATURE, b"x"),
        (header, bytes(17), SIGNATURE, b"x"),
        (header, b"\x07", SIGNATURE[:-1], b"x"),
        (header, b"\x07", bytes(96), b"x"),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            abi.post_batch_calldata(*arguments)


def test_errors_have_names() -> None:
    for name in ("AlreadyPosted", "WrongParent", "NoQuorum", "InvalidSignature", "InvalidKey"):
        assert abi.decode_revert(keccak(f"{name}()".encode())[:4]) == name
    assert abi.decode_revert(b"") == ""
    assert abi.decode_revert(b"\x01\x02\x03\x04\x05") == "0102030405"
    reason = b"\x08\xc3\x79\xa0" + encode(["string"], ["because"])
    assert abi.decode_revert(reason) == "because"
    assert abi.decode_revert(reason[:30]) == reason[:30].hex()


@given(st.binary(max_size=150))
def test_any_revert_has_a_text(data: bytes) -> None:
    assert isinstance(abi.decode_revert(data), str)
    assert isinstance(abi.decode_revert(b"\x08\xc3\x79\xa0" + data), str)


def test_another_event_is_refused() -> None:
    topic, number = abi.batch_posted_topic(), bytes(32)
    for topics, data in (
        ([topic], bytes(224)),
        ([topic, number, number], bytes(224)),
        ([bytes(32), number], bytes(224)),
        ([topic, number], bytes(223)),
        ([topic, number], b""),
    ):
        with pytest.raises(ValueError, match="BatchPosted"):
            abi.decode_batch_posted(topics, data)
