"""What the registry's refusals mean to an operator, and what to do about each."""

from typing import Final

_SENTENCES: Final = {
    "NotAllowed": "account {account} is not on the allow-list of this network; ask the owner of "
    "the registry ({owner}) for: sequencer registry allow {account}",
    "NotOwner": "account {account} is not the owner of the registry ({owner}), or this network has "
    "no allow-list: whoever stakes enough may join",
    "AlreadyMember": "account {account} operates a member already; look at it: sequencer registry "
    "show. To join with other keys, leave and exit first, or use another account",
    "StakeTooLow": "the stake is below the {min_stake} ether that this network asks for; give "
    "--stake {min_stake} or more",
    "RegistryFull": "the registry has no room for another member; wait until somebody leaves, or, "
    "where stakes decide, give more than the lowest of them",
    "IdentityUsed": "the identity of these keys was registered before, and counts once for ever; "
    "make new keys: sequencer keys new --dir NEW",
    "KeyUsed": "the BLS key was registered before, and counts once for ever; make another one: "
    "sequencer keys new --dir NEW, or sequencer rotate for a member",
    "InvalidPossession": "the contract does not believe that you hold the BLS key: the proof of "
    "possession is of another key",
    "InvalidBinding": "the contract does not believe that the BLS key is meant for this account, "
    "chain and L1: keys, account and genesis do not belong together",
    "InvalidKey": "the BLS key is no point of the right group; import the keys again",
    "PrecompileFailed": "the BLS key is no point of the right group, or this L1 lacks the BLS "
    "precompiles (EIP-2537, from Prague on)",
    "IdentityKey": "the BLS key is the point at infinity; make new keys",
    "AddressUsed": "another member is registered with the address {address}; give the one where "
    "others reach you: --address MULTIADDR",
    "NoAddress": "an address is needed: --address MULTIADDR",
    "UnknownIdentity": "no founding member has this identity; join without claiming",
    "AlreadyClaimed": "this founding member has an operator already, which is another account",
    "AlreadyLeft": "the member of account {account} has left; its stake comes back with: "
    "sequencer exit",
    "NotMember": "account {account} operates no member; join first: sequencer join",
    "NotLeft": "the member has not left; first: sequencer leave",
    "StillSeated": "a committee still holds the member, or may; wait for the next epoch: sequencer "
    "leave --wait",
    "TooEarly": "the stake stays locked for some L1 blocks after the last epoch of the member; "
    "see: sequencer registry show",
    "NotPaid": "the account {account} does not take the stake; it is a contract that refuses ether",
}


def explain(reason: str, facts: dict[str, str]) -> str:
    """A sentence for a contract's error; `facts` are account, owner, min_stake and address."""
    sentence = _SENTENCES.get(reason)
    return f"the contract refuses: {reason}" if sentence is None else sentence.format_map(facts)
