"""Certificates of an authority of the tests' own, which no system trusts."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class PrivateTls:
    """`ca_file` is what clients are to trust; `server` is the TLS of a server at 127.0.0.1.

    `chain` holds the server's certificate and key, and `client` those of a client.
    """

    ca_file: Path
    server: ssl.SSLContext
    chain: Path
    client: Path


def private_tls(directory: Path, *names: str) -> PrivateTls:
    """An authority, and a certificate for 127.0.0.1 and these names that it has signed, in `server.pem`."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the tests")])

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a host of the tests")])
    certificate = (
        builder(name, key.public_key())
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, names)]
            ),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    clients_key = ec.generate_private_key(ec.SECP256R1())
    clients_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a client of the tests")])
    clients = builder(clients_name, clients_key.public_key()).sign(ca_key, hashes.SHA256())
    ca_file, chain, client = (directory / name for name in ("ca.pem", "server.pem", "client.pem"))
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for path, one, its_key in ((chain, certificate, key), (client, clients, clients_key)):
        path.write_bytes(
            one.public_bytes(serialization.Encoding.PEM)
            + its_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    return PrivateTls(ca_file, server, chain, client)
