"""One secret, encrypted at rest: EIP-2335 (version 4) and Web3 secret storage (version 3).

Both derive a key from the password (scrypt or PBKDF2), encrypt with AES-128-CTR, and keep a
checksum of key and ciphertext. EIP-2335 hashes with SHA-256 and normalizes the password, version 3
hashes with keccak-256 and takes it as it is.
"""

import json
import unicodedata
from collections.abc import Mapping
from hashlib import pbkdf2_hmac, scrypt, sha256
from hmac import compare_digest
from secrets import token_bytes
from typing import Any, Final
from uuid import uuid4

import orjson
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from eth_hash.auto import keccak

SECRET_BYTES: Final = 32
SCRYPT_ROUNDS: Final = 1 << 17
"""128 MiB and about a third of a second for each guess (OWASP's first choice for scrypt)."""
LIGHT_SCRYPT_ROUNDS: Final = 1 << 10
"""For throw-away keys of a testnet on one machine."""

_R: Final = 8
_KEY_BYTES: Final = 32
_MAX_SCRYPT_ROUNDS: Final = 1 << 20
_MAX_SCRYPT_MEMORY: Final = 1 << 31
_MAX_PBKDF2_ROUNDS: Final = 1 << 24


class KeystoreError(ValueError):
    """Why a keystore gives no secret, in a sentence."""


def encrypt_v4(
    secret: bytes, password: str, public_key: bytes, description: str, light: bool = False
) -> str:
    """An EIP-2335 keystore (JSON) of a 32-byte secret."""
    params = _scrypt_params(light)
    key = _derive(_normalized(password), "scrypt", params)
    iv = token_bytes(16)
    message = _aes_ctr(key[:16], iv, secret)
    keystore = {
        "crypto": {
            "kdf": {"function": "scrypt", "params": params, "message": ""},
            "checksum": {
                "function": "sha256",
                "params": {},
                "message": sha256(key[16:] + message).hexdigest(),
            },
            "cipher": {
                "function": "aes-128-ctr",
                "params": {"iv": iv.hex()},
                "message": message.hex(),
            },
        },
        "description": description,
        "pubkey": public_key.hex(),
        "path": "",
        "uuid": str(uuid4()),
        "version": 4,
    }
    return json.dumps(keystore, indent=2) + "\n"


def encrypt_v3(secret: bytes, password: str, address: bytes, light: bool = False) -> str:
    """A Web3 secret storage file (JSON) of a 32-byte secp256k1 key with this address."""
    params = _scrypt_params(light)
    key = _derive(password.encode(), "scrypt", params)
    iv = token_bytes(16)
    message = _aes_ctr(key[:16], iv, secret)
    keystore = {
        "address": address.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": message.hex(),
            "kdf": "scrypt",
            "kdfparams": params,
            "mac": keccak(key[16:] + message).hex(),
        },
        "id": str(uuid4()),
        "version": 3,
    }
    return json.dumps(keystore, indent=2) + "\n"


def decrypt(data: bytes | str, password: str) -> bytes:
    """The 32-byte secret of a keystore of either version; `KeystoreError`."""
    try:
        keystore = orjson.loads(data)
        version = keystore["version"]
        if version == 4:
            return _decrypt_v4(keystore["crypto"], password)
        if version == 3:
            return _decrypt_v3(keystore["crypto"], password)
    except KeystoreError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KeystoreError("it is damaged, or no keystore at all") from None
    raise KeystoreError(f"it has version {version!r}, this reads versions 3 and 4")


def _decrypt_v4(crypto: Mapping[str, Any], password: str) -> bytes:
    kdf, cipher = crypto["kdf"], crypto["cipher"]
    _require_cipher(cipher["function"])
    key = _derive(_normalized(password), kdf["function"], kdf["params"])
    message = bytes.fromhex(cipher["message"])
    _check(sha256(key[16:] + message).digest(), crypto["checksum"]["message"])
    return _secret(_aes_ctr(key[:16], bytes.fromhex(cipher["params"]["iv"]), message))


def _decrypt_v3(crypto: Mapping[str, Any], password: str) -> bytes:
    _require_cipher(crypto["cipher"])
    key = _derive(password.encode(), crypto["kdf"], crypto["kdfparams"])
    message = bytes.fromhex(crypto["ciphertext"])
    _check(bytes(keccak(key[16:] + message)), crypto["mac"])
    return _secret(_aes_ctr(key[:16], bytes.fromhex(crypto["cipherparams"]["iv"]), message))


def _scrypt_params(light: bool) -> dict[str, Any]:
    rounds = LIGHT_SCRYPT_ROUNDS if light else SCRYPT_ROUNDS
    return {"dklen": _KEY_BYTES, "n": rounds, "p": 1, "r": _R, "salt": token_bytes(32).hex()}


def _derive(password: bytes, function: str, params: Mapping[str, Any]) -> bytes:
    salt, size = bytes.fromhex(params["salt"]), params["dklen"]
    if size != _KEY_BYTES:
        raise KeystoreError(f"it derives {size} bytes, not {_KEY_BYTES}")
    if function == "scrypt":
        rounds, r, p = params["n"], params["r"], params["p"]
        if not 1 < rounds <= _MAX_SCRYPT_ROUNDS or not 1 <= r <= 16 or not 1 <= p <= 16:
            raise KeystoreError("its scrypt parameters are out of bounds")
        return scrypt(
            password, salt=salt, n=rounds, r=r, p=p, dklen=size, maxmem=_MAX_SCRYPT_MEMORY - 1
        )
    if function == "pbkdf2":
        if params["prf"] != "hmac-sha256" or not 1 <= params["c"] <= _MAX_PBKDF2_ROUNDS:
            raise KeystoreError("its PBKDF2 parameters are out of bounds")
        return pbkdf2_hmac("sha256", password, salt, params["c"], size)
    raise KeystoreError(f"it derives its key by {function!r}; known are scrypt and pbkdf2")


def _normalized(password: str) -> bytes:
    """EIP-2335: NFKD, without control characters, in UTF-8."""
    text = unicodedata.normalize("NFKD", password)
    return "".join(c for c in text if ord(c) >= 0x20 and not 0x7F <= ord(c) <= 0x9F).encode()


def _aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def _require_cipher(name: str) -> None:
    if name != "aes-128-ctr":
        raise KeystoreError(f"it is encrypted by {name!r}; known is aes-128-ctr")


def _check(checksum: bytes, expected: str) -> None:
    if not compare_digest(checksum, bytes.fromhex(expected)):
        raise KeystoreError("the password is wrong")


def _secret(secret: bytes) -> bytes:
    if len(secret) != SECRET_BYTES:
        raise KeystoreError(f"it holds {len(secret)} bytes, not {SECRET_BYTES}")
    return secret
