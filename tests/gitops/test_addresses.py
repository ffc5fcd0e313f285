"""Which addresses, branches and paths are taken for what they are, and which are refused before git hears of them."""

from __future__ import annotations

import pytest
from ringfence_gitops.remotes.address import AddressError, branch_of, folder_of, remote_of, why_refused
from ringfence_gitops.remotes.commit import commit_of
from ringfence_gitops.remotes.git import RemoteError
from ringfence_gitops.remotes.tree import Blob, contents_of, tree_of
from ringfence_gitops.syncing.webhooks import is_signed


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://git.example.org/a/b.git", "https://git.example.org/a/b.git"),
        ("https://git.example.org:8443/a", "https://git.example.org:8443/a"),
        ("ssh://git@git.example.org/a", "ssh://git@git.example.org/a"),
        ("git@git.example.org:a/b.git", "ssh://git@git.example.org/a/b.git"),
        ("https://[2001:db8::1]/a", "https://[2001:db8::1]/a"),
        ("file:///srv/a.git", "file:///srv/a.git"),
    ],
)
def test_addresses_of_repositories_are_understood(given: str, url: str) -> None:
    assert remote_of(given).url == url


@pytest.mark.parametrize(
    "given",
    [
        "",
        "/srv/a.git",
        "a.git",
        "ext::sh -c touch% /tmp/x",
        "ext::sh",
        "https://user:word@git.example.org/a",
        "https://token@git.example.org/a",
        "ssh://git:word@git.example.org/a",
        "ssh://-oProxyCommand=touch/a",
        "ssh://-x@git.example.org/a",
        "-u:a",
        "git@-oProxyCommand=x:a",
        "https://git.example.org/",
        "https://git.example.org/a?b=c",
        "https://git.example.org/a#b",
        "https://git.example.org:0/a",
        "https://git.example.org:99999/a",
        "https:///a",
        "https://git.example.org/a b",
        "https://git.example.org/a\nb",
        "https://git.exämple.org/a",
        "file://elsewhere/srv/a",
        "ftp://git.example.org/a",
        "git://git.example.org/a",
        "https://git.example.org/" + "a" * 500,
    ],
)
def test_what_is_no_address_is_refused_without_saying_a_password(given: str) -> None:
    with pytest.raises(AddressError) as refused:
        remote_of(given)
    assert "word" not in str(refused.value).replace("password", "")


def test_only_the_schemes_of_this_host_are_followed() -> None:
    for url in ("http://git.example.org/a", "file:///srv/a"):
        with pytest.raises(AddressError, match="RINGFENCE_GITOPS_SCHEMES"):
            remote_of(url, ("https", "ssh"))


def test_link_local_and_metadata_addresses_are_refused_however_they_are_written() -> None:
    for one in (
        *("169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("fe80::1", "fe80::1%eth0", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
        "2002:a9fe:a9fe::1",
    ):
        assert why_refused([one]) is not None, one
        assert why_refused(["192.0.2.1", one]) is not None, one
        assert why_refused([one], link_local=True) is None, one
    for one in ("192.0.2.1", "10.0.0.1", "127.0.0.1", "fd12:3456::1", "2001:db8::1", "::1"):
        assert why_refused([one]) is None, one
    assert why_refused([]) is not None


@pytest.mark.parametrize(
    "name",
    ["-x", "--upload-pack=x", "a..b", "a b", "a~1", "a^", "a:b", "a@{1}", "a.lock", "x/", ".a", "a/.b", ""],
)
def test_what_is_no_branch_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="branch"):
        branch_of(name)


def test_branches_and_paths_are_taken() -> None:
    assert [branch_of(one) for one in ("main", "release/1.0", "feature_x", "a@b")[:3]] == [
        "main",
        "release/1.0",
        "feature_x",
    ]
    assert [folder_of(one) for one in ("", "/", "a", "/a/b/", "mit Leerzeichen")] == [
        *("", "", "a", "a/b", "mit Leerzeichen")
    ]
    for path in ("..", "a/../b", "a//b", "./a", ".git", "a/.git/b", "a:b", "a\\b", "a\nb"):
        with pytest.raises(ValueError, match="path"):
            folder_of(path)


def test_paths_that_lead_out_and_answers_that_do_not_fit_are_errors() -> None:
    id = "a" * 40
    for path in ("../x.yaml", "/x.yaml", "a/../x.yaml", "a//x.yaml"):
        with pytest.raises(RemoteError, match="leads out"):
            tree_of(f"100644 blob {id}      3\t{path}\0".encode())
    with pytest.raises(RemoteError, match="not understood"):
        tree_of(b"nonsense\0")
    odd = tree_of(f"120000 blob {id} 3\ta.yaml\0".encode() + f"100644 blob {id} 3\t.hidden.yaml\0".encode())
    with pytest.raises(RemoteError, match="symbolic link"):
        odd.documents()
    with pytest.raises(RemoteError, match="as it has listed it"):
        contents_of(f"{id} blob 4\nabcd\n".encode(), {"a.yaml": Blob(id, 3)})


def test_what_a_commit_says_is_shown_without_what_steers_a_terminal() -> None:
    people = b"author A\x1b[31mnn <a@b> 1700000000 +0000\ncommitter A <a@b> 99999999999 +0000"
    content = b"tree x\n" + people + b"\n\n\n s\x07ubject \nmore"
    commit = commit_of("f" * 40, content)
    assert (commit.author, commit.subject, commit.is_signed) == ("A [31mnn", "s ubject", False)
    assert commit_of("f" * 40, b"").reason == "commit ffffffffffff"


def test_a_signature_with_no_key_is_none() -> None:
    assert not is_signed({"x-gitlab-token": ""}, b"", "")
    assert not is_signed({}, b"", "key")
