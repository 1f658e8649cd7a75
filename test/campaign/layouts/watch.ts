import type { Routing } from "../../../src/run/moe/routing.js";
import { routingsOf } from "../../../src/train/losses.js";
import type { Scheduled, StepSessions } from "../../../src/train/step-sessions.js";

/** Routings of each run of a micro-batch, in order: they are gone once a step has ended. */
export function watch(sessions: StepSessions): {
  readonly sessions: StepSessions;
  readonly routings: Routing[][];
} {
  const routings: Routing[][] = [];
  const watched = <S extends Scheduled>({ session, ...rest }: S): S =>
    ({
      ...rest,
      session: {
        program: session.program,
        run: (...given: Parameters<typeof session.run>) => {
          const result = session.run(...given);
          for (const ids of sessions.values) routings.push(routingsOf(sessions.model, result, ids));
          return result;
        },
      },
    }) as unknown as S;
  const { accumulate, last, updating } = sessions;
  return {
    sessions: {
      ...sessions,
      accumulate: accumulate && watched(accumulate),
      last: watched(last),
      updating: updating && watched(updating),
    },
    routings,
  };
}
