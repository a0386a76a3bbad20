import { Effect } from "effect"
import type { Tracker } from "./ports/tracker.ts"

/** One tracker that passes everything on to each of `trackers`, in order. */
export const combineTrackers = (trackers: ReadonlyArray<Tracker["Service"]>): Tracker["Service"] => ({
  metrics: (step, metrics) => Effect.forEach(trackers, (tracker) => tracker.metrics(step, metrics), { discard: true }),
  timings: (step, timings) => Effect.forEach(trackers, (tracker) => tracker.timings(step, timings), { discard: true }),
  samples: (step, samples) => Effect.forEach(trackers, (tracker) => tracker.samples(step, samples), { discard: true }),
  rewind: (step) => Effect.forEach(trackers, (tracker) => tracker.rewind(step), { discard: true }),
})
