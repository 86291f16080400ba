"""Certificates of an authority that lives as long as a test."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_NOT_AFTER = datetime.now(UTC) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority: its own certificate is what clients are told to trust."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str) -> "Authority":
        return cls(_name(name), ec.generate_private_key(ec.SECP256R1()))

    def write(self, path: Path) -> Path:
        """Write the certificate of the authority."""
        signed = self._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=0))
        path.write_bytes(signed)
        return path

    def certify(self, host: str) -> tuple[bytes, bytes]:
        """Make a server's certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self._sign(_name(host), key, names), text

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=self.name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=_NOT_AFTER - timedelta(days=2),
            not_valid_after=_NOT_AFTER,
        )
        signed = builder.add_extension(extension, critical=True).sign(self.key, SHA256())
        return signed.public_bytes(Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
