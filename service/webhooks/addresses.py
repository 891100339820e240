"""Where a webhook may lead: to the public internet, unless a setting allows the rest. Pure."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from service.core.errors import InvalidRequest

Address = IPv4Address | IPv6Address
# What looks public and is a cloud's own: Azure's metadata and DNS; Oracle's, which older Pythons call global.
_METADATA = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: Address, /) -> bool:
    """Whether an address is neither private, loopback, link-local, shared, multicast nor a metadata service's.

    What an IPv6 address carries within it (mapped, 6to4, NAT64) is judged, not the wrapping.
    """
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    if any(address in network for network in _METADATA):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def checked_url(url: str, /, *, allow_private: bool) -> SplitResult:
    """The parts of a URL that a webhook may have. Where a name leads is checked when it is connected to.

    Raises:
        InvalidRequest: It is no such URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"The webhook's URL cannot be read: {error}.") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise InvalidRequest("A webhook's URL begins with https:// (or http://) and a host.")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("A webhook's URL holds no user or password: requests are signed instead.")
    if not url.isascii() or any(sign.isspace() or not sign.isprintable() for sign in url):
        raise InvalidRequest("A webhook's URL is ASCII without spaces: encode the path, write the host in punycode.")
    literal = _literal(parts.hostname)
    if literal is not None and not allow_private and not is_public(literal):
        raise InvalidRequest(f"{literal} {NOT_PUBLIC}")
    return parts


NOT_PUBLIC = "is no public address (ZOOSCOUT_WEBHOOKS__ALLOW_PRIVATE_ADDRESSES=true allows it)."


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
