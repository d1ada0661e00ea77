"""`perdure serve`: a server of the Lambda durable functions API."""

import logging
import signal
import threading
from pathlib import Path
from typing import Any

import click

from perdure.cli.exits import Exit
from perdure.cli.settings import Command, settings

PORT = 9014
"""The port where SAM looks for an external emulator."""


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of unpacked packages and logs.  [STORE.d]")
@click.option("--tls-cert", type=click.Path(path_type=Path, dir_okay=False), help="Certificate for HTTPS, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="Its key, if in a file of its own.")
@click.option("--region", default="us-east-1", show_default=True, help="The region in the ARNs.")
@click.option("--account", default="000000000000", show_default=True, help="The account in the ARNs, twelve digits.")
@click.option("--limits", type=click.Choice(["wide", "aws"]), default="wide", show_default=True, help="Quotas.")
@click.option(
    "--retries",
    type=click.Choice(["patient", "emulator"]),
    default="patient",
    show_default=True,
    help="Of failed invocations: until the time-out, or five and no more.",
)
@click.option("--lambda-endpoint", help="Where functions are that nobody has deployed: SAM's start-lambda.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--log-level", default="INFO", show_default=True, help="DEBUG, INFO, WARNING or ERROR.")
@click.option("--store-type", hidden=True, help="Taken for the sake of the official local server's scripts.")
@click.option("--store-path", type=click.Path(path_type=Path), hidden=True, help="The same as --store FILE.")
def serve(**given: Any) -> int:
    """Serve the Lambda API for durable functions.

    boto3, the AWS CLI, SAM and the official durable SDKs use it unchanged:

    \b
        perdure serve --store sqlite:///orders.db
        AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:9014 aws lambda list-functions

    Beyond this machine nothing is served without access keys: `perdure keys create` makes them.
    """
    from perdure.server.http import Tls
    from perdure.server.lines import log_to_stderr
    from perdure.server.node import Node, Settings as NodeSettings
    from perdure.server.terms import home_of, terms_of
    from perdure.store.open import open_store

    options = settings()
    level = logging.getLevelNamesMapping().get(str(given["log_level"]).upper())
    if level is None:
        raise click.BadParameter(f"{given['log_level']!r} is no level", param_hint="--log-level")
    log_to_stderr(level=level, is_json=given["log_format"] == "json")
    store_url = str(given["store_path"]) if given["store_path"] else options.store_url
    node_settings = NodeSettings(
        host=given["host"],
        port=given["port"],
        tls=Tls(given["tls_cert"], given["tls_key"]) if given["tls_cert"] else None,
        home=home_of(given["region"], given["account"]),
        terms=terms_of(limits=given["limits"], retries=given["retries"]),
        data=given["data"],
        lambda_endpoint=given["lambda_endpoint"],
    )
    store = open_store(store_url)
    try:
        node = Node(store, node_settings)
    except BaseException:
        store.close()
        raise
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopped.set())
    with node:
        click.echo(f"perdure serves {store_url} at {node.url}", err=True)
        click.echo(node.url)
        stopped.wait()
        if not options.is_quiet:
            click.echo("stopping: what runs is handed back at its next checkpoint", err=True)
    return Exit.OK
