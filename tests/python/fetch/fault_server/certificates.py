"""Certificates, good and bad, made when the server starts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme

HERE = ("localhost", "127.0.0.1", "127.0.0.2", "::1", "*.fault.test")


@dataclass
class Certificates:
    """The contexts of the listeners; what a client needs of them lies in the folder."""

    folder: Path

    def __post_init__(self) -> None:
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(self.folder / "ca.pem")
        client = self.authority.issue_cert("client@localhost")
        client.private_key_pem.write_to_path(self.folder / "client.key")
        with open(self.folder / "client.pem", "wb") as chain:
            for certificate in client.cert_chain_pems:
                chain.write(certificate.bytes())

    def context(self, issued: trustme.LeafCert, *protocols: str) -> ssl.SSLContext:
        """Return a server's context with a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        context.set_alpn_protocols(protocols or ["http/1.1"])
        return context

    def contexts(self) -> dict[str, ssl.SSLContext]:
        """Return the context of each listener, by its scheme."""
        good = self.authority.issue_cert(*HERE)
        past = datetime.now(timezone.utc) - timedelta(days=1)
        expired = self.authority.issue_cert(*HERE, not_after=past)
        future = self.authority.issue_cert(*HERE, not_before=past + timedelta(days=30))
        with_client = self.context(good)
        with_client.verify_mode = ssl.CERT_REQUIRED
        self.authority.configure_trust(with_client)
        return {
            "https": self.context(good),
            "h2": self.context(good, "h2", "http/1.1"),
            "h2-one": self.context(good, "h2"),
            "wrong-name": self.context(self.authority.issue_cert("other.example.org")),
            "expired": self.context(expired),
            "not-yet": self.context(future),
            "stranger": self.context(trustme.CA().issue_cert(*HERE)),
            "client-certificate": with_client,
        }
