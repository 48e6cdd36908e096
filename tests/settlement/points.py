"""Points of BLS12-381 that are nearly good."""

from py_arkworks_bls12381 import G1Point, G2Point, Scalar

FIELD_MODULUS = int(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab",
    16,
)
SUBGROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


def pad(point: bytes) -> bytes:
    return b"".join(bytes(16) + point[at : at + 48] for at in range(0, len(point), 48))


def square_root(value: tuple[int, int]) -> tuple[int, int] | None:
    """Of c0 + c1 i, or None; p = 3 mod 4."""
    p = FIELD_MODULUS
    a, b = value
    norm = pow(a * a + b * b, (p + 1) // 4, p)
    for sign_of_norm in (norm, -norm):
        half = (a + sign_of_norm) * pow(2, -1, p) % p
        x = pow(half, (p + 1) // 4, p)
        if x and x * x % p == half:
            y = b * pow(2 * x, -1, p) % p
            if ((x * x - y * y) % p, 2 * x * y % p) == (a % p, b % p):
                return x, y
    return None


def g2_outside_of_the_subgroup() -> bytes:
    """A point on y^2 = x^3 + 4 (1 + i) whose order is not the subgroup's."""
    p = FIELD_MODULUS
    for a in range(1, 100):
        # x = a: x^3 + 4 + 4 i
        root = square_root(((a**3 + 4) % p, 4))
        if root is not None:
            point = b"".join(n.to_bytes(48, "big") for n in (a, 0, *root))
            assert not G2Point.from_xy_bytes_unchecked_be(point).is_in_subgroup()
            return point
    raise AssertionError("half of all numbers give a point")


def g1_outside_of_the_subgroup() -> bytes:
    """A point on y^2 = x^3 + 4 whose order is not the subgroup's."""
    p = FIELD_MODULUS
    for x in range(1, 100):
        y = pow(x**3 + 4, (p + 1) // 4, p)
        if y * y % p == (x**3 + 4) % p:
            point = x.to_bytes(48, "big") + y.to_bytes(48, "big")
            assert not G1Point.from_xy_bytes_unchecked_be(point).is_in_subgroup()
            return point
    raise AssertionError("half of all numbers give a point")


def spoilt_signatures(good: G2Point) -> dict[str, bytes]:
    """Points and things that are no points, near a good signature."""
    xy = good.to_xy_bytes_be()
    x0, x1, y0, y1 = (xy[at : at + 48] for at in range(0, 192, 48))
    small = G2Point.from_xy_bytes_unchecked_be(g2_outside_of_the_subgroup())
    torsion = small * Scalar.from_be_bytes_mod_order((SUBGROUP_ORDER - 1).to_bytes(32, "big"))
    torsion = torsion + small  # times the order: in the cofactor's part, not infinity
    above = (int.from_bytes(x0, "big") + FIELD_MODULUS).to_bytes(64, "big")
    return {
        "infinity": bytes(256),
        "generator": pad(G2Point().to_xy_bytes_be()),
        "negative": pad((-good).to_xy_bytes_be()),
        "doubled": pad((good + good).to_xy_bytes_be()),
        "plus generator": pad((good + G2Point()).to_xy_bytes_be()),
        "c1 before c0": pad(x1 + x0 + y1 + y0),
        "x and y swapped": pad(y0 + y1 + x0 + x1),
        "not on the curve": pad(x0 + x1 + y0 + y1[:-1] + bytes([y1[-1] ^ 1])),
        "x not reduced": above + pad(xy)[64:],
        "all ones": b"\xff" * 256,
        "padding not zero": b"\1" + pad(xy)[1:],
        "outside of the subgroup": pad(g2_outside_of_the_subgroup()),
        "plus a point of small order": pad((good + torsion).to_xy_bytes_be()),
    }
