"""``avaturn view``: a local page that shows models."""

from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated

import avaturn_async as sdk

from .command import argument, command, failure, flag, in_thread, option
from .inspect import facts
from .output import Output, page

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler

HELP = """Look at GLB models in a browser.

Serves a page to this machine only: the models, a viewer to turn one with mouse or arrow keys, and the facts of inspect.
The viewer is <model-viewer>, loaded from jsdelivr.net and checked by its hash, or a local file.
"""

VIEWER = "https://cdn.jsdelivr.net/npm/@google/model-viewer@4.4.0/dist/model-viewer.min.js"
INTEGRITY = "sha384-wjsPzEO+lXOf7d9csIDfAQpPt2OKuUU3m0K9qsdKIuzX4N8czSF6hdh23eAbZa3p"
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'unsafe-inline'; "
    f"script-src 'self' 'wasm-unsafe-eval' {VIEWER}; "
    "connect-src 'self' blob: data:; img-src 'self' blob: data:; worker-src blob:"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


@command(HELP, "avaturn view avatar.glb", "avaturn view models --viewer model-viewer.min.js")
async def _view(
    output: Output,
    paths: Annotated[list[Path], argument("FILE|FOLDER...", "GLB models, and folders of them.")],
    port: Annotated[int, option("PORT", "0 is any free port.", min=0, max=65535)] = 0,
    viewer: Annotated[
        Path | None, option("FILE", "A model-viewer.min.js to use instead of the one from the CDN.")
    ] = None,
    no_open: Annotated[bool, flag("--no-open", "Do not open a browser.")] = False,
) -> None:
    import asyncio
    import webbrowser

    from aiohttp import web

    def find() -> list[Path]:
        found = [file for path in paths for file in (sorted(path.rglob("*.glb")) if path.is_dir() else [path])]
        for path in (*found, *([viewer] if viewer else [])):
            path.stat()  # OSError if it does not exist
        return found

    files = await in_thread(find)
    if not files:
        raise ValueError(f"there are no .glb files in {', '.join(map(str, paths))}")
    runner = web.AppRunner(_application(files, viewer), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        output.result(
            {"url": url, "models": len(files)}, f"{len(files)} model{'s' * (len(files) != 1)} at {url} until Ctrl-C"
        )
        if not no_open:
            await in_thread(webbrowser.open, url)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _application(files: list[Path], viewer: Path | None) -> "web.Application":
    from aiohttp import web

    def chosen(request: web.Request) -> int:
        number = int(request.match_info["number"])
        if number >= len(files):
            raise web.HTTPNotFound
        return number

    async def show(request: web.Request) -> web.Response:
        text = await in_thread(_page, files, chosen(request), viewer)
        body = text.encode("utf-8", "replace")  # names of files may be any bytes
        return web.Response(body=body, content_type="text/html", charset="utf-8")

    async def model(request: web.Request) -> web.FileResponse:
        return web.FileResponse(files[chosen(request)])

    async def script(request: web.Request) -> web.FileResponse:
        if viewer is None:
            raise web.HTTPNotFound
        return web.FileResponse(viewer, headers={"Content-Type": "text/javascript"})

    async def first(request: web.Request) -> web.Response:
        raise web.HTTPFound("/0")

    @web.middleware
    async def guard(request: web.Request, handler: "Handler") -> web.StreamResponse:
        # DNS rebinding: another site could resolve its own name to this address, to read what is served here.
        if request.url.host not in ("127.0.0.1", "localhost"):
            raise web.HTTPForbidden
        return await handler(request)

    async def protect(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)

    application = web.Application(middlewares=[guard])
    application.on_response_prepare.append(protect)
    routes = (("/", first), (r"/{number:\d{1,6}}", show), (r"/models/{number:\d{1,6}}", model), ("/viewer.js", script))
    application.add_routes([web.get(path, handler) for path, handler in routes])
    return application


def _page(files: list[Path], number: int, viewer: Path | None) -> str:
    """Return the page of one model, with links to the others; the file is inspected for each request."""
    from .. import glb

    try:
        rows = facts(glb.inspect(files[number]))
    except (OSError, sdk.NotAModelError) as error:
        rows = [("error", failure(error))]
    links = (
        f'<li><a href="/{index}"{" aria-current=page" if index == number else ""}>{escape(file.name)}'
        f"<small>{escape(str(file.parent))}</small></a></li>"
        for index, file in enumerate(files)
    )
    source = 'src="/viewer.js"' if viewer else f'src="{VIEWER}" integrity="{INTEGRITY}" crossorigin="anonymous"'
    return Template(page("view.html")).substitute(
        name=escape(files[number].name),
        number=number,
        script=f'<script type="module" {source}></script>',
        links="".join(links),
        facts="".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{"<br>".join(map(escape, value.split("; ")))}</td></tr>'
            for name, value in rows
        ),
    )
