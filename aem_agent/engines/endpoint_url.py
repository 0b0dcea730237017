"""Base URLs of endpoints."""

import ipaddress
import socket

import httpx

from aem_agent.types import EngineError


def checked_url(base: str) -> str:
    """`base` without slashes at its end; raises `EngineError` if it is no URL, or holds more than an address."""
    base = base.rstrip("/")
    try:
        url = httpx.URL(base)
    except (httpx.InvalidURL, ValueError):
        raise EngineError("the base URL is malformed; it must look like http://127.0.0.1:8000/v1") from None
    if url.userinfo:
        raise EngineError("the base URL holds credentials; put the key into OPENAI_API_KEY instead")
    if "?" in base or "#" in base:  # an empty query would swallow the paths, too
        raise EngineError("the base URL holds a query; it must look like http://127.0.0.1:8000/v1")
    if url.scheme not in ("http", "https") or not url.host:
        raise EngineError(f"the base URL {base!r} is not one; it must look like http://127.0.0.1:8000/v1")
    return base


def is_local(url: str) -> bool:
    """Its host is this machine, however it is spelt: no proxy may come between."""
    host = httpx.URL(url).host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))  # short forms, such as 127.1
        except (OSError, ValueError):
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
