"""Passwords of the web page: where they come from, and how they are tried."""

import asyncio

import pytest

from llava.errors import UserError
from llava.serve.web.__main__ import read_password
from llava.serve.web.address import Logins, Names
from llava.serve.web.arguments import WebArguments


def test_passwords_are_tried_one_after_the_other():
    """From one address; another one does not wait, and nothing is kept of either."""

    async def run():
        logins, entered = Logins(wrong_seconds=0, longest=3), []

        async def try_one(name, address):
            async with logins.turn((address, 1)):
                entered.append(name)
                await asyncio.sleep(0)

        async with logins.turn(("10.0.0.1", 1)):
            waiting = [asyncio.ensure_future(try_one(n, "10.0.0.1")) for n in ("first", "second")]
            await asyncio.sleep(0)
            with pytest.raises(UserError, match="too many passwords"):
                await try_one("third", "10.0.0.1")
            await try_one("other", "10.0.0.2")
        await asyncio.gather(*waiting)
        return entered

    assert asyncio.run(run()) == ["other", "first", "second"]


def test_an_ipv4_address_is_one_through_an_ipv6_socket_too():
    scope = {"type": "http", "server": ("::ffff:192.168.0.5", 7860)}
    for host, is_known in ((b"192.168.0.5:7860", True), (b"192.168.0.6:7860", False)):
        assert Names("::").has(scope | {"headers": [(b"host", host)]}) == is_known

    async def run():
        logins = Logins(wrong_seconds=0, longest=1)
        async with logins.turn(("::ffff:10.0.0.1", 1)), logins.turn(("::ffff:10.0.0.2", 1)):
            with pytest.raises(UserError):
                async with logins.turn(("10.0.0.1", 1)):
                    pass

    asyncio.run(run())


def test_one_line_of_ipv6_is_one_address():
    async def run():
        logins = Logins(wrong_seconds=0, longest=1)
        async with logins.turn(("2001:db8::1", 1)):
            async with logins.turn(("2001:db8:0:1::1", 1)):
                with pytest.raises(UserError):
                    async with logins.turn(("2001:db8::ffff:2", 1)):
                        pass

    asyncio.run(run())


def test_passwords_of_a_file_and_of_a_variable(tmp_path):
    (tmp_path / "password").write_text("rose bud\n")
    of_file = WebArguments(user="ada", password_file=str(tmp_path / "password"))
    assert read_password(of_file, {}) == "rose bud"
    of_variable = WebArguments(user="ada", password_variable="SECRET")
    assert read_password(of_variable, {"SECRET": "x"}) == "x"
    assert read_password(WebArguments(), {"SECRET": "x"}) is None
    (tmp_path / "password").write_text("two\nlines\n")
    with pytest.raises(UserError, match="one line"):
        read_password(of_file, {})
