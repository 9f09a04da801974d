"""What goes over a wire though nobody reads it."""

UNREAD_BYTES_MAX = 512 << 10
"""So much of an answer that nobody reads is on its way, or in the buffers of the system, which grow with what is read
(tcp_rmem)."""
