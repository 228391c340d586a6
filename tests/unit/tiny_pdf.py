"""PDFs made by hand, as small as they can be: with text, without, encrypted, and with a bomb inside."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path

from pypdf import PdfReader, PdfWriter


def pdf(pages: Sequence[str], outline: Sequence[str] = ()) -> bytes:
    """A PDF with a page of text for each string, its lines one below the other; ``outline`` titles name the pages."""
    contents = [zlib.compress(_content(page)) for page in pages]
    return _named(_assemble([(content, "/FlateDecode") for content in contents]), outline)


def bomb(megabytes: int = 200) -> bytes:
    """A PDF of some kilobytes whose only page unpacks, twice, to many megabytes."""
    packer = zlib.compressobj(9)
    block = b" " * 1_000_000
    once = b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()
    return _assemble([(zlib.compress(once, 9), "[/FlateDecode /FlateDecode]")])


def encrypted(pages: Sequence[str], password: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf(pages))))
    writer.encrypt(password, owner_password="the teacher's", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _content(text: str) -> bytes:
    lines = []
    for line in text.split("\n"):
        escaped = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        lines.append(f"({escaped}) Tj T*")
    body = "\n".join(lines) if text else ""
    return f"BT /F1 11 Tf 14 TL 50 780 Td {body} ET".encode("latin-1", "replace")


def _assemble(streams: Sequence[tuple[bytes, str]]) -> bytes:
    """Catalog, page tree, font, then a page and its stream for each, and the cross-reference table."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(streams)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(streams)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, (data, filters) in enumerate(streams):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {5 + 2 * number} 0 R >>".encode()
        )
        head = f"<< /Length {len(data)} /Filter {filters} >>\nstream\n".encode()
        objects.append(head + data + b"\nendstream")
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n".encode() + body + b"\nendobj\n")
    table = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.write("".join(f"{place:010} 00000 n \n" for place in places).encode())
    out.write(f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode())
    return out.getvalue()


def _named(data: bytes, outline: Sequence[str]) -> bytes:
    if not outline:
        return data
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    for number, title in enumerate(outline):
        if title:
            writer.add_outline_item(title=title, page_number=number)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()
