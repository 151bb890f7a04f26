"""What the operating system knows: the speed of a link, its neighbours, a firewall.

All of it is Linux's; elsewhere nothing is known, and nothing said.
"""

from __future__ import annotations

from contextlib import suppress

UFW = "/etc/ufw/ufw.conf"


def _read(path: str) -> str:
    with suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
        return file.read(65536)
    return ""


def link_speed(interface: str) -> int | None:
    """Bits a second that were agreed on the cable; None where nobody says (Wi-Fi, bridges)."""
    text = _read(f"/sys/class/net/{interface}/speed").strip()
    return int(text) * 1_000_000 if text.isdigit() and int(text) > 0 else None


def is_wireless(interface: str) -> bool:
    """Whether it is Wi-Fi."""
    return f"{interface}:" in _read("/proc/net/wireless")


def neighbour(host: str) -> bool | None:
    """Whether a device with this IPv4 address answers on the cable; None where nobody knows."""
    for line in _read("/proc/net/arp").splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[0] == host:
            return int(words[2], 16) & 2 != 0
    return None


def has_ufw() -> bool:
    """Whether Ubuntu's firewall is on; what it lets in only root may see."""
    return "ENABLED=yes" in _read(UFW)
