/** What operators and clients ask of the server itself. */
import type { FastifyInstance } from "fastify";
import { ApiError } from "../errors.js";
import { openApi } from "../openapi.js";
import { type Service, checkModel } from "../service.js";

/** HTML; undefined where there is none yet. */
export type TimelinePage = () => string | undefined | Promise<string | undefined>;

/** @param timeline a page, or undefined where there is none yet */
export function addStatus(app: FastifyInstance, service: Service, timeline: TimelinePage): void {
  const { metrics, engine, model } = service;
  const created = Math.floor(Date.now() / 1e3);
  const listed = {
    id: model.name,
    object: "model",
    created,
    owned_by: "scmoe",
    root: model.name,
    parent: null,
    max_model_len: engine.contextLength,
  };
  app.get("/v1/models", () => ({ object: "list", data: [listed] }));
  app.get<{ Params: { "*": string } }>("/v1/models/*", ({ params }) => {
    checkModel(model, params["*"]);
    return listed;
  });

  // Draining is healthy: a server that is killed for it would lose the answers under way.
  app.get("/health", () => {
    if (service.refusal?.details.code === "engine_lost") throw service.refusal;
    return { status: "ok" };
  });
  app.get("/ready", () => {
    if (service.refusal !== undefined) throw service.refusal;
    return { status: "ready" };
  });
  app.get("/metrics", async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
  app.get("/openapi.json", () => openApi());
  app.get("/debug/timeline", async (_, reply) => {
    const page = await timeline();
    if (page === undefined)
      throw new ApiError(404, "There is no timeline yet: no step has been made; ask for a completion first", {
        code: "no_timeline",
      });
    return reply.type("text/html; charset=utf-8").send(page);
  });
}
