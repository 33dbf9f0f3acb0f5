"""An independent decoder of a sealed message, written from docs/wire-format.md; it shares no code with the product.

It opens HPKE by hand too (RFC 9180, section 5.1, KEM 0x647a), so that the document is known to be enough.
"""

import hashlib
import hmac

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def fr(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, *parts):
    return hmac.digest(key, b"".join(parts), "sha256")


def hpke_open(wrapped, keys, info):
    pq, sk = MLKEM768PrivateKey.from_seed_bytes(keys[:64]), X25519PrivateKey.from_private_bytes(keys[64:])
    shared = sk.exchange(X25519PublicKey.from_public_bytes(wrapped[1088:1120]))
    shared += wrapped[1088:1120] + sk.public_key().public_bytes_raw()
    shared = hashlib.sha3_256(pq.decapsulate(wrapped[:1088]) + shared + b"\\.//^\\").digest()
    tag = b"HPKE-v1" + b"HPKE\x64\x7a\x00\x01\x00\x02"
    schedule = b"\x00" + mac(b"", tag, b"psk_id_hash") + mac(b"", tag, b"info_hash", info)
    secret = mac(shared, tag, b"secret")
    key = mac(secret, b"\x00\x20", tag, b"key", schedule, b"\x01")
    nonce = mac(secret, b"\x00\x0c", tag, b"base_nonce", schedule, b"\x01")[:12]
    return AESGCM(key).decrypt(nonce, wrapped[1120:], None)


def chunks(data, at, length, file_key, header_hash, hashed):
    name, prk, count = b"cloister/v1/seal/", mac(header_hash, file_key), max(1, -(-length // 65536))
    commitment, plaintext, leaves = mac(prk, fr(name + b"key-commitment"), b"\x01"), b"", b""
    aead = AESGCM(mac(prk, fr(name + b"chunk-key"), b"\x01"))
    for i in range(count):
        last, chunk = bytes([i == count - 1]), data[at : at + min(65536, length - 65536 * i) + 16]
        plaintext += aead.decrypt(i.to_bytes(11, "big") + last, chunk, None)
        leaves += hashed(fr(name + b"chunk", i.to_bytes(8, "big"), last) + chunk).digest()
        at += len(chunk)
    return plaintext, commitment, sha(fr(name + b"root", header_hash, commitment, count.to_bytes(8, "big")), leaves), at


def decode(sealed, private, public, sender_public):
    name, suite = b"cloister/v1/seal/", sealed[16:18]
    keys, own = private[36:100] + private[104:136], sha(fr(b"cloister/v1/identity-id", public))
    if len(public) == 1216:
        keys, own = private, sha(fr(b"cloister/v1/prekey-id", public[:1184], public[1184:]))
    assert sealed[:16] == b"cloister/v1/seal" and b"\0\1" <= suite <= b"\0\6"
    hashed = hashlib.sha256 if suite == b"\0\1" else blake3
    at = 22 + int.from_bytes(sealed[18:22], "big")
    context, sender_id = sealed[22:at], sealed[at : at + 32]
    assert sender_id == sha(fr(b"cloister/v1/identity-id", sender_public))
    length, count = (int.from_bytes(sealed[a:b], "big") for a, b in ((at + 32, at + 40), (at + 40, at + 42)))
    end = at + 42 + 1200 * count
    stanzas = {sealed[i : i + 32]: sealed[i + 32 : i + 1200] for i in range(at + 42, end, 1200)}
    context_hash = sha(fr(name + b"context-hash", context))
    file_key = hpke_open(stanzas[own], keys, fr(name + b"stanza", suite, sender_id, own, context_hash))
    header_hash = sha(fr(name + b"header"), sealed[:end])
    plaintext, commitment, root, at = chunks(sealed, end + 32, length, file_key, header_hash, hashed)
    assert sealed[end : end + 32] == commitment and sealed[at : at + 32] == root and len(plaintext) == length
    signer, signed = Ed25519PublicKey.from_public_bytes(sender_public[-32:]), fr(name + b"signature", root)
    signer.verify(sealed[at + 32 : at + 96], signed)
    common, prekeys, at = None, [], at + 96
    if suite in (b"\0\3", b"\0\5"):
        assert sealed[at : at + 18] == b"cloister/v1/body\0\3"
        length = int.from_bytes(sealed[at + 18 : at + 26], "big")
        header_hash = sha(fr(name + b"body-header"), sealed[at : at + 26])
        common, _, named, at = chunks(sealed, at + 26, length, plaintext[:32], header_hash, hashed)
        assert named == plaintext[32:64] and len(common) == length
        plaintext = plaintext[64:]
    if suite >= b"\0\4":
        end = 8 + 1216 * int.from_bytes(plaintext[:8], "big")
        prekeys, plaintext = [plaintext[i : i + 1216] for i in range(8, end, 1216)], plaintext[end:]
    assert len(sealed) == at and len(prekeys) <= 4 and (suite != b"\0\6" or not plaintext)
    return context, plaintext, root, common, prekeys
