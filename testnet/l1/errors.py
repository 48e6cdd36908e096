"""What an embedded L1 answers when it cannot do what was asked, in geth's words and codes."""

REVERTED_CODE = 3
SERVER_ERROR_CODE = -32000
INVALID_REQUEST_CODE = -32600
METHOD_NOT_FOUND_CODE = -32601
INVALID_PARAMS_CODE = -32602
INTERNAL_ERROR_CODE = -32603
PARSE_ERROR_CODE = -32700

_ERROR_STRING_SELECTOR = bytes.fromhex("08c379a0")  # Error(string)


class RpcError(Exception):
    """An error answer of JSON-RPC: a code, a sentence, and data where the method defines some."""

    def __init__(self, message: str, code: int = SERVER_ERROR_CODE, data: str | None = None):
        super().__init__(message)
        self.code = code
        self.data = data


def invalid_params(message: str) -> RpcError:
    """The caller's parameters cannot be understood."""
    return RpcError(message, INVALID_PARAMS_CODE)


def reverted(output: bytes) -> RpcError:
    """A call ended in REVERT with `output`; the reason is spelled out if it is an Error(string)."""
    message = "execution reverted"
    if output[:4] == _ERROR_STRING_SELECTOR and len(output) >= 68:
        length = int.from_bytes(output[36:68], "big")
        message += ": " + output[68 : 68 + length].decode("utf-8", "replace")
    return RpcError(message, REVERTED_CODE, "0x" + output.hex())
