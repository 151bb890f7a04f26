"""The grammar: bytes to packets and back, without I/O (docs/protocol.rst)."""
