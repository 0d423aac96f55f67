"""What any gRPC service stands on: servers, listeners, admission, errors, bounds."""

import os

# Requires TLS 1.3, for which grpc has no option: of TLS 1.2 this leaves only a suite with
# pre-shared keys, which the service does not have, and it does not apply to the suites of TLS
# 1.3. grpc reads it once, when it is imported, so it is set here.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-CHACHA20-POLY1305"
