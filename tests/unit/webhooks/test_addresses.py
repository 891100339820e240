"""Where a webhook may lead, and when it is tried again."""

from ipaddress import ip_address

import pytest

from service.core.errors import InvalidRequest
from service.webhooks.addresses import checked_url, is_public
from service.webhooks.schedule import MAX_TRIES, delay_after


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",  # noqa: S104
        "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "198.18.0.1", "192.0.2.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "2002:a9fe:a9fe::", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_what_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_what_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("https:///nowhere", "https://"),
        ("https://user:pass@example.com/", "signed"),
        ("https://example.com:99999/", "read"),
        ("https://example.com:0/", "https://"),
        ("https://exa mple.com/", "ASCII"),
        ("https://example.com/\u00e9", "ASCII"),
        ("http://127.0.0.1/", "no public address"),
        ("http://[::1]:8080/", "no public address"),
        ("http://169.254.169.254/latest/meta-data", "no public address"),
    ],
)
def test_an_address_that_no_webhook_may_have_is_refused_with_the_reason(url: str, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        checked_url(url, allow_private=False)


def test_a_setting_allows_private_addresses_and_nothing_else() -> None:
    assert checked_url("http://127.0.0.1:80/x", allow_private=True).hostname == "127.0.0.1"
    with pytest.raises(InvalidRequest):
        checked_url("file:///etc/passwd", allow_private=True)


def test_ten_tries_over_about_a_day() -> None:
    delays = [delay_after(tries, jitter=0.5) for tries in range(1, MAX_TRIES + 1)]
    assert delays[-1] is None
    kept = [delay for delay in delays if delay is not None]
    assert kept[:3] == [10.0, 30.0, 90.0]
    assert kept == sorted(kept)
    assert 18 * 3600 < sum(kept) < 26 * 3600
    spread = [delay_after(4, jitter=jitter) or 0.0 for jitter in (0.0, 1.0)]
    assert spread == pytest.approx([270 * 0.9, 270 * 1.1])
