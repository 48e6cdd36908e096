# pragma version 0.4.3
"""
@title Where the contract stands
@license MIT
@notice The epoch, the place in the log, and the committee of each epoch.
"""

struct State:
    epoch: uint64
    next_number: uint64
    next_position: uint64

MAX_U64: constant(uint256) = 2 ** 64 - 1
ADDRESS_MASK: constant(uint256) = 2 ** 160 - 1

chain_id_digest: public(immutable(bytes32))
deploy_block: public(immutable(uint256))

# One word: epoch, next number, next position.
_state: uint256
# By epoch, the account of its committee and above it an L1 block: the one in which the epoch began
# here; before that, the one of its snapshot.
_committees: HashMap[uint64, uint256]


@deploy
def __init__(chain_id: bytes32, first_epoch: uint64, committee: address):
    chain_id_digest = chain_id
    deploy_block = block.number
    self.set_committee(first_epoch, committee)
    self.set_state(State(epoch=first_epoch, next_number=1, next_position=0))


@view
@internal
def state() -> State:
    word: uint256 = self._state
    return State(
        epoch=convert(word >> 128, uint64),
        next_number=convert(word >> 64 & MAX_U64, uint64),
        next_position=convert(word & MAX_U64, uint64),
    )


@internal
def set_state(state: State):
    self._state = (
        convert(state.epoch, uint256) << 128
        | convert(state.next_number, uint256) << 64
        | convert(state.next_position, uint256)
    )


@view
@internal
def epoch() -> uint64:
    return convert(self._state >> 128, uint64)


@view
@internal
def committee(epoch: uint64) -> address:
    """
    @dev The account of an epoch's committee; zero where there is none.
    """
    return convert(convert(self._committees[epoch] & ADDRESS_MASK, uint160), address)


@view
@internal
def since(epoch: uint64) -> uint256:
    """
    @dev The L1 block in which an epoch began here, or its snapshot was taken.
    """
    return self._committees[epoch] >> 160


@internal
def set_committee(epoch: uint64, committee: address):
    """
    @dev The committee of an epoch, as of this L1 block.
    """
    self._committees[epoch] = block.number << 160 | convert(convert(committee, uint160), uint256)
