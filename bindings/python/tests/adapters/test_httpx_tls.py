"""verify, cert and sni_hostname: what they say in httpx's words holds in the pool."""

import importlib
import os
import ssl
import subprocess
from pathlib import Path

import pytest
import servers

import llmpool
from llmpool import transport


def serve(connection, number):
    rest = b""
    while True:
        _, _, rest = servers.read_request(connection, rest)
        servers.answer(connection)


@pytest.fixture(scope="module")
def good(certificates):
    with servers.RawServer(serve, certificates.context("good")) as server:
        yield server


@pytest.fixture(scope="module")
def hashed(certificates, tmp_path_factory):
    """A directory as OpenSSL reads it, with the CA in it."""
    directory = tmp_path_factory.mktemp("hashed")
    (directory / "ca.pem").write_bytes(Path(certificates.ca_file).read_bytes())
    subprocess.run(["openssl", "rehash", str(directory)], check=True)
    return str(directory)


def works(caller, url, **client):
    try:
        return caller.request("GET", url, client=client).status_code == 200
    except caller.httpx.ConnectError:
        return False


def test_each_form_of_verify(caller, certificates, good, hashed):
    context = ssl.create_default_context(cafile=certificates.ca_file)
    for verify in (certificates.ca_file, hashed, context, False):
        assert works(caller, good.url, verify=verify), verify
    for verify in (True, str(certificates.directory / "unknown-ca.pem")):
        assert not works(caller, good.url, verify=verify), verify


def test_contexts_by_what_they_have(caller, certificates, good):
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(cafile=certificates.ca_file)
    data = ssl.create_default_context(cadata=Path(certificates.ca_file).read_text())
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    for context in (bare, data, nobody):
        assert works(caller, good.url, verify=context)
    assert not works(caller, good.url, verify=ssl.create_default_context())


def test_default_context_is_the_default_way(caller):
    for context in (ssl.create_default_context(), caller.httpx.create_ssl_context(trust_env=False)):
        trusted = transport.way(verify=context).key[0]
        if caller.name == "httpx":  # which has certifi's
            trusted = transport.way(verify=ssl.create_default_context()).key[0]
        assert trusted == transport.way().key[0]


def test_what_a_context_cannot_say(caller, certificates, hashed):
    chain = ssl.create_default_context(cafile=certificates.ca_file)
    chain.load_cert_chain(*certificates.pair("good"))
    empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    directory = ssl.create_default_context(capath=hashed)
    strict = ssl.create_default_context()
    strict.minimum_version = ssl.TLSVersion.TLSv1_3
    nameless = ssl.create_default_context()
    nameless.check_hostname = False
    revoking = ssl.create_default_context()
    revoking.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    for context, advice in (
        (chain, "cert=\\("), (empty, "verify='/path'"), (directory, "verify='/path'"),
        (strict, "minimum_version"), (nameless, "server_name"), (revoking, "revocation"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=advice):
            caller.client_class(verify=context)
    caller.client_class(verify=chain, cert=certificates.pair("good"))  # the advice, followed
    with pytest.raises(TypeError, match="not int"):
        caller.client_class(verify=1)
    with pytest.raises(OSError):
        caller.client_class(verify="/nowhere.pem")
    with pytest.raises(ValueError, match="no certificate"):
        caller.client_class(verify=certificates.pair("good")[1])


def test_truststore_has_what_it_was_given_beside_the_system_s(caller, certificates, good):
    truststore = pytest.importorskip("truststore")
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert transport.way(verify=context).key[0] == transport.way().key[0]
    assert not works(caller, good.url, verify=context)
    context.load_verify_locations(certificates.ca_file)
    assert works(caller, good.url, verify=context)
    chain = transport.way(verify=context).options["ca_pem"]
    assert chain.count("BEGIN") == 1 + len(ssl.create_default_context().get_ca_certs())
    context.load_cert_chain(*certificates.pair("good"))
    with pytest.raises(ValueError, match="cert=\\("):
        caller.client_class(verify=context)


def test_what_was_seen_of_a_context_is_known(caller, certificates, hashed, good):
    context = ssl.create_default_context(capath=hashed)
    transport.note(context, ca_path=hashed)
    assert works(caller, good.url, verify=context)
    chain = ssl.create_default_context(cafile=certificates.ca_file)
    chain.load_cert_chain(*certificates.pair("good"))
    transport.note(chain, client_cert=certificates.pair("good"))
    assert works(caller, good.url, verify=chain)


def test_client_certificate(caller, certificates):
    context = certificates.context("good")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca_file)
    verify = certificates.ca_file
    with servers.RawServer(serve, context) as server:
        assert works(caller, server.url, verify=verify, cert=certificates.pair("good"))
        with pytest.raises(caller.httpx.TransportError):
            caller.request("GET", server.url, client={"verify": verify})
    with pytest.raises(ValueError, match="passphrase"):
        caller.client_class(cert=(*certificates.pair("good"), "secret"))


def test_sni_hostname(caller, certificates, tmp_path):
    asked = []
    servers.make_certificate(
        tmp_path_with_ca(certificates, tmp_path), "other", "ca", "DNS:other.test"
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "other.pem", tmp_path / "other.key")
    context.sni_callback = lambda sock, server_name, _: asked.append(server_name)
    with servers.RawServer(serve, context) as server:
        client = {"verify": certificates.ca_file}
        for name in ("other.test", b"other.test"):
            extensions = {"sni_hostname": name}
            response = caller.request("GET", server.url, client=client, extensions=extensions)
            assert response.status_code == 200
        with pytest.raises(caller.httpx.ConnectError):
            caller.request("GET", server.url, client=client)
    assert asked[0] == "other.test"


def tmp_path_with_ca(certificates, tmp_path):
    for end in ("pem", "key"):
        (tmp_path / f"ca.{end}").write_bytes((certificates.directory / f"ca.{end}").read_bytes())
    return tmp_path


def test_environment_counts_only_with_trust_env(caller, certificates, good, monkeypatch, hashed):
    for variable, value in (("SSL_CERT_FILE", certificates.ca_file), ("SSL_CERT_DIR", hashed)):
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        monkeypatch.setenv(variable, value)
        # A pool reads the environment when it is opened.
        assert works(caller, good.url, trust_env=True, isolated=True)
        assert not works(caller, good.url, trust_env=False, isolated=True)


def test_certifi_where_the_system_has_none(monkeypatch):
    certifi = pytest.importorskip("certifi")
    from llmpool._pool import trust

    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr(trust, "_system_places", lambda: ("/nowhere.pem", "/nowhere"))
    assert trust.trust().options == {"ca_file": certifi.where()}


def test_pool_takes_certificates_in_each_way(open_pool, certificates, good, hashed):
    pem = Path(certificates.ca_file).read_text()
    unknown = str(certificates.directory / "unknown-ca.pem")
    for options in (
        {"ca_path": hashed},
        {"ca_pem": pem},
        {"ca_pem": pem, "ca_file": unknown},
        {"ca_path": hashed, "ca_file": unknown},
    ):
        with llmpool.Client(pool=open_pool(**options)) as client:
            assert client.get(good.url).status_code == 200
    with pytest.raises(llmpool.CertificateError):
        llmpool.Client(pool=open_pool(ca_file=unknown)).get(good.url)
    for options, text in (({"ca_path": "/nowhere"}, "ca_path"), ({"ca_pem": "none"}, "ca_pem")):
        with pytest.raises(ValueError, match=text):
            llmpool.Pool(**options)


def test_renewed_file_is_another_way(name, certificates, tmp_path):
    file = tmp_path / "ca.pem"
    file.write_bytes(Path(certificates.ca_file).read_bytes())
    before = transport.way(verify=str(file)).key
    file.write_bytes((certificates.directory / "unknown-ca.pem").read_bytes())
    os.utime(file, ns=(1, 1))
    assert transport.way(verify=str(file)).key != before
    assert importlib.import_module(f"llmpool.{name}")
