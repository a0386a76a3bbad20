import { Worker } from "node:worker_threads"
import { Effect } from "effect"
import type { RewardFunction, WeightedReward } from "@rlpt/core"

/** Words of the memory that the process shares with its watchdog. */
const words = { beats: 0, scoring: 1, reward: 2, count: 3 } as const

const secondsPerLook = 0.25

/**
 * What the watchdog's thread runs. It counts its own looks rather than trust a clock: a laptop that was asleep is no
 * reward that hangs.
 */
const source = `
const { workerData: { limits, names, shared } } = require("node:worker_threads")
const view = new Int32Array(shared)
let seen = 0, looks = 0
setInterval(() => {
  const beats = Atomics.load(view, ${words.beats})
  looks = Atomics.load(view, ${words.scoring}) === 0 || beats !== seen ? 0 : looks + 1
  seen = beats
  const reward = Atomics.load(view, ${words.reward})
  if (looks * ${secondsPerLook} <= limits[reward]) return
  require("node:fs").writeSync(2, 'error: the reward "' + names[reward] + '" has not given control back for ' + limits[reward] +
    " s, and cannot be stopped any other way: the run is ended. Mend the reward, then go on by --resume.\\n")
  process.kill(process.pid, "SIGKILL")
}, ${secondsPerLook * 1000})
`

/**
 * The same rewards under the eye of a second thread. A time-out ends a promise or an effect that takes too long, but
 * nothing within a thread can end an endless loop (or a regular expression that backtracks for ever) in it; so when one
 * score holds up the process for longer than its time-out, the watchdog says so and ends the process, which no
 * checkpoint minds.
 */
export const watchRewards = (rewards: ReadonlyArray<WeightedReward>): ReadonlyArray<WeightedReward> => {
  const view = new Int32Array(new SharedArrayBuffer(words.count * Int32Array.BYTES_PER_ELEMENT))
  const beat = () => void Atomics.add(view, words.beats, 1)
  let heart: ReturnType<typeof setInterval> | undefined
  let watchdog: Worker | undefined

  const enter = (reward: number) => {
    watchdog ??= startWatchdog(rewards, view.buffer)
    beat()
    Atomics.store(view, words.reward, reward)
    if (Atomics.add(view, words.scoring, 1) === 0) heart = setInterval(beat, secondsPerLook * 1000).unref()
  }
  const leave = () => {
    if (Atomics.sub(view, words.scoring, 1) === 1) clearInterval(heart)
  }
  const watched = ({ score }: RewardFunction, index: number): RewardFunction => ({
    score: (input) =>
      Effect.acquireUseRelease(
        Effect.sync(() => enter(index)),
        () => score(input),
        () => Effect.sync(leave),
      ),
  })
  return rewards.map((weighted, index) => ({ ...weighted, reward: watched(weighted.reward, index) }))
}

const startWatchdog = (rewards: ReadonlyArray<WeightedReward>, shared: ArrayBufferLike): Worker => {
  const workerData = { shared, names: rewards.map(({ name }) => name), limits: rewards.map(({ timeout }) => timeout) }
  const worker = new Worker(source, { eval: true, workerData })
  // It shall not keep a finished command from ending.
  worker.unref()
  return worker
}
