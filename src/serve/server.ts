/** A model behind OpenAI's wire format. */
import { randomUUID } from "node:crypto";
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { type Logger, pino } from "pino";
import { EnvironmentError, InputError } from "../core/errors.js";
import type { InferenceEngine } from "../infer/engine.js";
import { addBodies } from "./bodies.js";
import { connectionOptions, refuseConnection, whenOver } from "./connections.js";
import { ApiError, CLIENT_GONE, apiError } from "./errors.js";
import { DEFAULT_ADDRESS, checkAddress, checkKeys, keyCheck } from "./keys.js";
import { type Limits, limitsOf } from "./limits.js";
import { createMetrics } from "./metrics.js";
import type { ServedModel } from "./model.js";
import { addChat } from "./routes/chat.js";
import { addCompletions } from "./routes/completions.js";
import { type TimelinePage, addStatus } from "./routes/status.js";
import { addTokens } from "./routes/tokens.js";
import { type Service, createService } from "./service.js";

export interface ServerOptions {
  /** The caller's: it outlives the server. */
  readonly engine: InferenceEngine;
  readonly model: ServedModel;
  /** API keys; none: whoever reaches the server may ask. */
  readonly keys?: readonly string[] | undefined;
  readonly limits?: Partial<Limits> | undefined;
  /** Where the log goes, a line of JSON per request; default: nowhere. */
  readonly log?: Logger | undefined;
  /** The page of /debug/timeline; undefined where there is none yet. */
  readonly timeline?: TimelinePage | undefined;
  /** The engine has failed; every request is refused from now on. */
  readonly onEngineLost?: ((cause: unknown) => void) | undefined;
}

export interface Server {
  /**
   * @param host loopback unless said otherwise; @param port 0: any that is free
   * @throws InputError when others could reach it and there is no key; EnvironmentError when the address cannot be had
   */
  listen(at?: { readonly host?: string | undefined; readonly port?: number | undefined }): Promise<string>;
  /** `http://127.0.0.1:8000`; undefined before `listen`. */
  readonly address: string | undefined;
  /**
   * Takes no new requests (503), lets those under way end, cancels what is left at the deadline, and closes. Status is
   * answered until then.
   */
  drain(deadlineMs: number): Promise<void>;
  /** Cancels everything and closes. */
  close(): Promise<void>;
  /** For tests: requests without a connection. */
  readonly app: FastifyInstance;
}

/** What anyone may ask who can reach the server. */
const OPEN = new Set(["/health", "/ready"]);
/** In which answers that have ended must be read. */
const FLUSH_MS = 1_000;

/** @throws InputError when a limit or a key makes no sense */
export function createServer(options: ServerOptions): Server {
  const { engine, model, keys = [], timeline = () => undefined } = options;
  checkKeys(keys);
  const limits = limitsOf(options.limits);
  const metrics = createMetrics(model.name, engine);
  const log = options.log ?? pino({ enabled: false });
  const logFailure = ({ id }: FastifyRequest, err: unknown): void =>
    log.error({ request: id, err }, "a request failed");
  const service = createService({
    engine,
    model,
    limits,
    metrics,
    onEngineLost(err) {
      log.error({ err }, "the engine has failed; every request is refused from now on");
      options.onEngineLost?.(err);
    },
    onFailure: logFailure,
  });
  const connection = connectionOptions(limits);
  const app: FastifyInstance = fastify({
    http: connection,
    requestTimeout: connection.requestTimeout,
    bodyLimit: limits.maxBodyBytes,
    // Once the answers are out, nothing is worth waiting for.
    forceCloseConnections: true,
    genReqId: ({ headers }) => requestId(headers["x-request-id"]),
    clientErrorHandler: refuseConnection,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 4_096 },
    frameworkErrors: (error, request, reply) => void sendError(error, request, reply),
  });
  addBodies(app, limits.maxBodyBytes);
  addLog(app, service, log);
  const check = keyCheck(keys);
  app.addHook("onRequest", (request, _, done) => {
    if (!OPEN.has(request.routeOptions.url ?? "")) check(request.headers.authorization);
    done();
  });
  app.setErrorHandler(async (error, request, reply) => {
    const known = apiError(error);
    if (known.status === 500 && known !== error) logFailure(request, error);
    await bodyDropped(request, reply);
    return sendError(error, request, reply);
  });
  app.setNotFoundHandler(async (request, reply) => {
    await bodyDropped(request, reply);
    return sendError(unknownUrl(app, request, reply), request, reply);
  });
  addCompletions(app, service);
  addChat(app, service);
  addTokens(app, service);
  addStatus(app, service, timeline);

  let address: string | undefined;
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => (closing ??= app.close());
  return {
    app,
    get address() {
      return address;
    },
    async listen({ host = DEFAULT_ADDRESS.host, port = DEFAULT_ADDRESS.port } = {}) {
      checkAddress(host, keys);
      try {
        address = await app.listen({ host: host.replace(/^\[(.*)\]$/, "$1"), port });
      } catch (error) {
        throw listenError(error, host, port);
      }
      log.info({ address, model: model.name }, "listening");
      return address;
    },
    async drain(deadlineMs) {
      log.info({ deadlineMs }, "draining");
      await service.drain(deadlineMs);
      await service.flushed(FLUSH_MS);
      await close();
      log.info("closed");
    },
    async close() {
      await service.drain(0);
      await close();
    },
  };
}

/** A client's own, where it is harmless in logs and headers. */
function requestId(given: string | string[] | undefined): string {
  return typeof given === "string" && /^[\w.:-]{1,128}$/.test(given) ? given : `req-${randomUUID()}`;
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const known = apiError(error);
  const { status, body, details } = known;
  if (details.retryAfter !== undefined) reply.header("retry-after", String(details.retryAfter));
  if (status === 401) reply.header("www-authenticate", "Bearer");
  // Fastify would close the connection of a client that may still be sending.
  reply.removeHeader("connection");
  return reply.header("x-request-id", request.id).code(status).send(body);
}

function unknownUrl(app: FastifyInstance, { method, url }: FastifyRequest, reply: FastifyReply): ApiError {
  const [path] = url.split("?");
  const route = path.replace(/(?<=.)\/$/, "").replace(/^\/v1\/models\/.+/, "/v1/models/*");
  const methods = (["GET", "POST"] as const).filter((other) => app.hasRoute({ method: other, url: route }));
  if (methods.length === 0)
    return new ApiError(404, `Unknown request URL: ${method} ${path}; see /openapi.json`, {
      code: "unknown_url",
    });
  reply.header("allow", methods.join(", "));
  return new ApiError(405, `${path} does not know ${method}; wanted ${methods.join(" or ")}`, {
    code: "method_not_allowed",
  });
}

/** A line per request, when its answer is out or its client has gone; never what was asked or answered. */
function addLog(app: FastifyInstance, { metrics, outcomes, elapsedMs }: Service, log: Logger): void {
  app.addHook("onRequest", (request, reply, done) => {
    elapsedMs(request);
    reply.header("x-request-id", request.id);
    whenOver(request, reply, () => {
      const status = reply.raw.writableFinished ? reply.raw.statusCode : CLIENT_GONE;
      const route = request.routeOptions.url ?? "unknown";
      metrics.answered(route, status);
      log.info({
        request: request.id,
        method: request.method,
        route,
        status,
        ms: Math.round(elapsedMs(request)),
        ...outcomes.get(request),
      });
    });
    done();
  });
}

/**
 * Reads and drops what is left of a refused request's body, as long as that may take to arrive. Many clients read an answer only when they
 * have sent all; if the connection closes behind the answer, as the client may have asked for, they would lose it.
 */
async function bodyDropped({ raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
  raw.resume();
  if (reply.raw.shouldKeepAlive || raw.complete || raw.destroyed) return;
  await new Promise<void>((resolve) => raw.once("end", resolve).once("close", resolve));
}

function listenError(error: unknown, host: string, port: number): Error {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOTFOUND" || code === "EAI_AGAIN" || code === "EADDRNOTAVAIL" || code === "EINVAL")
    return new InputError(
      `Cannot listen on ${host}: this machine has no such address; wanted one of its own`,
    );
  if (code === "EADDRINUSE")
    return new EnvironmentError(
      `Port ${port} of ${host} is in use; choose another (--port), or end what listens there`,
    );
  return code === "EACCES"
    ? new EnvironmentError(
        `Port ${port} of ${host} needs more rights than this process has; choose one from 1024`,
      )
    : new EnvironmentError(`Cannot listen on ${host}, port ${port}: ${message}`);
}
