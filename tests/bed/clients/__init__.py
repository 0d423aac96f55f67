"""The client's side of every RPC."""
