"""What any gRPC service stands on: servers, listeners, admission, errors, bounds."""

import os

# The floor of TLS 1.3, which grpc has no option for: of TLS 1.2 it offers only a suite for
# shared secrets, of which it has none, and those of TLS 1.3 are not asked for by name. It
# is read once, as grpc is imported, and so is here.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-CHACHA20-POLY1305"
