"""The HTTP application. It never imports torch: what needs it is work for a worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from service.api.bodies import BodyLimits
from service.api.deps import App, caller, storable_address
from service.api.description import describe
from service.api.etags import ETags
from service.api.following import Followers
from service.api.headers import SecurityHeaders
from service.api.measured import Measured, Measures
from service.api.problems import install_problem_handlers
from service.api.rates import Rates
from service.api.records import Records
from service.api.remembered import Stamps
from service.api.v1 import (
    datasets,
    embeddings,
    estimators,
    events,
    finetunings,
    health,
    inspections,
    keys,
    metrics,
    models,
    outcomes,
    prescores,
    rankings,
    recommendations,
    reference,
    scores,
    webhooks,
)
from service.core.db import Database
from service.core.migrate import ensure_schema
from service.core.observing import observe
from service.core.settings import Settings
from service.core.tracing import trace_requests
from service.operation.readiness import Prober
from service.plugins import load_plugins
from service.schema import all_tables
from service.web import entry
from service.web import routes as web
from service.web.paths import STATIC


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application on the given settings, or on those of the environment."""
    settings = settings or Settings()
    observe(settings, role="api")
    load_plugins()
    all_tables()
    database = Database.from_settings(settings)
    followers = Followers(database)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        settings.data_dir.mkdir(parents=True, exist_ok=True)  # on PostgreSQL nothing else has made it yet
        ensure_schema(database)
        # A thread holds one connection at most, so that none waits for a connection while it holds one.
        current_default_thread_limiter().total_tokens = settings.database.pool_size
        yield
        await followers.close()
        database.dispose()

    app = FastAPIOffline(
        redoc_url=None,
        title="zooscout",
        summary="Which pretrained vision model to fine-tune on your data",
        version="0.1.0",
        lifespan=lifespan,
    )
    measures = Measures()
    app.state.zooscout = App(
        settings=settings,
        database=database,
        followers=followers,
        rates=Rates(settings.server.requests_per_minute),
        measures=measures,
        prober=Prober(settings, database),
        stamps=Stamps(database),
    )
    # The last is the outermost.
    app.add_middleware(ETags)
    app.add_middleware(BodyLimits, settings=settings.server)
    app.add_middleware(Records)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Measured, measures=measures)
    install_problem_handlers(app)
    storable = [Depends(storable_address)]
    for module in (
        models,
        datasets,
        rankings,
        outcomes,
        finetunings,
        prescores,
        recommendations,
        events,
        estimators,
        scores,
        keys,
        webhooks,
        reference,
        embeddings,
        inspections,
    ):
        app.include_router(module.router, prefix="/v1", dependencies=[*storable, Depends(caller)])
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(entry.router, include_in_schema=False)
    app.include_router(web.router, include_in_schema=False, dependencies=[*storable, Depends(caller)])
    describe(app, key_needed=settings.server.needs_key)
    trace_requests(app)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
