"""What a replica's sshd would do with the issuer's pushes, from what it says itself."""

from __future__ import annotations

import time

import pytest

from certsync.operator.hosts.admission import refusal

ISSUER = "10.0.0.1"
DEFAULT = [
    "usepam yes", "pubkeyauthentication yes", "authenticationmethods any", "forcecommand none",
    "chrootdirectory none", "authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2",
    "pubkeyacceptedalgorithms ssh-ed25519-cert-v01@openssh.com,ssh-ed25519,rsa-sha2-512",
    "groups certsync",
]  # fmt: skip


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["groups certsync"],
        DEFAULT,
        [*DEFAULT, "allowusers root", "allowusers certsync"],
        [*DEFAULT, "allowusers root certsync@10.0.0.0/24"],
        [*DEFAULT, "allowusers c*@10.0.0.?"],
        [*DEFAULT, "allowgroups sudo", "allowgroups certsync"],
        [*DEFAULT, "denyusers certsync@192.0.2.0/24", "denygroups guests"],
        ["authorizedkeysfile %h/.ssh/authorized_keys"],
        ["authorizedkeysfile /etc/keys/%u /var/lib/certsync-receive/.ssh/authorized_keys"],
        ["authenticationmethods publickey,password publickey"],
    ],
)
def test_an_sshd_that_lets_the_pushes_in_has_nothing_said_of_it(lines: list[str]) -> None:
    assert refusal(lines, ISSUER) == ("", "")


@pytest.mark.parametrize(
    ("line", "why", "hint"),
    [
        ("allowusers root admin", "AllowUsers root admin", "add certsync@10.0.0.1 to it"),
        ("allowusers certsync@10.0.1.0/24", "AllowUsers certsync@10.0.1.0/24", "add certsync@"),
        ("allowgroups ssh-users", "AllowGroups ssh-users", "add certsync to it"),
        ("denyusers cert*", "DenyUsers cert*", "remove it"),
        ("denygroups certsync", "DenyGroups certsync", "remove it"),
        ("usepam no", "UsePAM no", "set `UsePAM yes`"),
        ("pubkeyauthentication no", "PubkeyAuthentication no", "`PubkeyAuthentication yes`"),
        ("authorizedkeysfile /etc/ssh/keys/%u", "AuthorizedKeysFile /etc/ssh/keys/%u",
         "`AuthorizedKeysFile %h/.ssh/authorized_keys`"),
        ("authorizedkeysfile none", "AuthorizedKeysFile none", "`Match User certsync`"),
        ("authenticationmethods publickey,keyboard-interactive",
         "AuthenticationMethods publickey,keyboard-interactive",
         "`AuthenticationMethods publickey`"),
        ("pubkeyacceptedalgorithms rsa-sha2-512", "PubkeyAcceptedAlgorithms rsa-sha2-512",
         "`PubkeyAcceptedAlgorithms +ssh-ed25519`"),
        ("forcecommand internal-sftp", "ForceCommand internal-sftp", "`ForceCommand none`"),
        ("chrootdirectory /srv/sftp", "ChrootDirectory /srv/sftp", "`ChrootDirectory none`"),
    ],
)  # fmt: skip
def test_a_setting_that_keeps_them_out_is_named_with_what_lets_them_in(
    line: str, why: str, hint: str
) -> None:
    found = refusal([line, "groups certsync"], ISSUER)
    assert found[0].startswith(why)
    assert hint in found[1]
    assert found[1].endswith("systemctl reload ssh")


def test_a_pattern_of_a_host_takes_no_time_and_its_values_are_shortened() -> None:
    begin = time.monotonic()
    why, _ = refusal([f"allowusers {'*a' * 40_000}"], ISSUER)
    assert time.monotonic() - begin < 2
    assert len(why) == 200


def test_an_ipv6_address_is_in_its_network() -> None:
    lines = ["allowusers certsync@2001:db8::/32", "groups certsync"]
    assert refusal(lines, "2001:db8::7") == ("", "")
    assert refusal(lines, "2001:db9::7")[0]
