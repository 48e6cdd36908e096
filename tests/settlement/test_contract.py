"""The contract: what it accepts, and every single thing it refuses."""


from sequencer.settlement import abi
from tests.settlement.committees import Deployment
from tests.settlement.l1s import Evm


def test_a_certified_batch_is_accepted(evm: Evm) -> None:
    contract = Deployment(evm, 4)
    outcome = contract.send(contract.calldata(contract.header()))
    print(outcome.gas_used, abi.decode_revert(outcome.output), contract.outcome.gas_used)
    assert outcome.success
