import { Effect, Stream } from "effect"
import type { SamplingParams } from "@rlpt/core"
import { loadModel, type Model } from "@rlpt/models"
import { openDevice, type Gpu } from "@rlpt/tensor"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { makeModelEngine } from "../../src/webgpu/model-engine.ts"
import { makeRolloutEngine } from "../../src/webgpu/rollout-engine.ts"
import {
  drawn,
  endOfText,
  maxDifference,
  mixedPrompts,
  prompt,
  sampled,
  sampling,
  sequencesOf,
  testDevice,
  tinyFiles,
  tinyModel,
  tinyTokenizer,
  vocabularySize,
} from "./support.ts"

let gpu: Gpu
let model: Model
beforeAll(async () => {
  gpu = await testDevice()
  model = await tinyModel()
})
afterAll(() => model.dispose())

const engine = (rolloutBatchSize: number) => makeRolloutEngine(gpu, model, tinyTokenizer, { rolloutBatchSize })

const truncations: Readonly<Record<string, Partial<SamplingParams>>> = {
  "the whole distribution": {},
  "temperature 0.7": { temperature: 0.7 },
  "temperature 1.6 and top-k": { temperature: 1.6, topK: 5 },
  "top-p": { topP: 0.8 },
  "min-p": { minP: 0.1 },
  "everything at once": { temperature: 1.3, topK: 20, topP: 0.9, minP: 0.02, stopTokens: [7, 20] },
}

describe("log-probabilities from sampling are those of the trainer, bit for bit", () => {
  for (const [name, changes] of Object.entries(truncations)) {
    test(`from ${name}`, async () => {
      const params = sampling(changes)
      const trajectories = await sampled(engine(50), {
        prompts: mixedPrompts,
        numGenerations: 4,
        sampling: params,
        seed: 1,
      })
      const trainer = makeModelEngine(gpu, model)
      const recomputed = await Effect.runPromise(trainer.logProbs(sequencesOf(trajectories), params.temperature))
      expect(
        maxDifference(
          recomputed,
          trajectories.map(({ samplerLogProbs }) => samplerLogProbs),
        ),
      ).toBe(0)
      // Truncation changes what is drawn, never the probability that is reported: a likely token still costs something.
      const all = trajectories.flatMap(({ samplerLogProbs }) => [...samplerLogProbs])
      expect(all.every((value) => value <= 0 && value > -50)).toBe(true)
      expect(all.some((value) => value < -0.1)).toBe(true)
    })
  }

  for (const numGenerations of [1, 4, 16]) {
    for (const rolloutBatchSize of [3, 7, 50]) {
      test(`groups of ${numGenerations} in batches of ${rolloutBatchSize}`, async () => {
        const request = {
          prompts: mixedPrompts,
          numGenerations,
          sampling: sampling({ maxCompletionLength: 9 }),
          seed: 2,
        }
        const trajectories = await sampled(engine(rolloutBatchSize), request)
        expect(trajectories.length).toBe(mixedPrompts.length * numGenerations)
        const trainer = makeModelEngine(gpu, model)
        const recomputed = await Effect.runPromise(trainer.logProbs(sequencesOf(trajectories), 1))
        expect(
          maxDifference(
            recomputed,
            trajectories.map(({ samplerLogProbs }) => samplerLogProbs),
          ),
        ).toBe(0)
      })
    }
  }

  test("whatever sequences the trainer takes together", async () => {
    const trajectories = await sampled(engine(64), {
      prompts: mixedPrompts,
      numGenerations: 2,
      sampling: sampling(),
      seed: 3,
    })
    const trainer = makeModelEngine(gpu, model)
    const sequences = sequencesOf(trajectories)
    const together = await Effect.runPromise(trainer.logProbs(sequences, 1))
    const alone = await Effect.runPromise(Effect.forEach(sequences, (sequence) => trainer.logProbs([sequence], 1)))
    const backwards = await Effect.runPromise(trainer.logProbs(sequences.toReversed(), 1))
    expect(maxDifference(together, alone.flat())).toBe(0)
    expect(maxDifference(together, backwards.toReversed())).toBe(0)
  })
})

describe("what is drawn is a function of seed, row and sample", () => {
  const request = {
    prompts: mixedPrompts,
    numGenerations: 3,
    sampling: sampling({ topP: 0.95, temperature: 1.2 }),
    seed: 4,
  }

  test("not of the batch size, the order of the prompts, or the other prompts", async () => {
    const expected = drawn(await sampled(engine(1000), request))
    for (const rolloutBatchSize of [1, 5, 27])
      expect(drawn(await sampled(engine(rolloutBatchSize), request))).toEqual(expected)
    const shuffled = [4, 8, 0, 2, 6, 1, 7, 3, 5].map((i) => mixedPrompts[i]!)
    expect(drawn(await sampled(engine(10), { ...request, prompts: shuffled }))).toEqual(expected)
    const some = mixedPrompts.slice(3, 6)
    const rows = new Set(some.map(({ row }) => row))
    expect(drawn(await sampled(engine(10), { ...request, prompts: some }))).toEqual(
      expected.filter(({ row }) => rows.has(row)),
    )
  })

  test("not of how many samples a group has", async () => {
    const expected = drawn(await sampled(engine(64), { ...request, numGenerations: 1 }))
    const more = drawn(await sampled(engine(64), { ...request, numGenerations: 5 }))
    expect(more.filter(({ sample }) => sample === 0)).toEqual(expected)
  })

  test("nor of what the engine has sampled before, with larger and smaller buffers", async () => {
    const expected = drawn(await sampled(engine(16), request))
    const used = engine(16)
    await sampled(used, { ...request, sampling: sampling({ maxCompletionLength: 40 }) })
    await sampled(used, { ...request, prompts: mixedPrompts.slice(0, 1), numGenerations: 1 })
    expect(drawn(await sampled(used, request))).toEqual(expected)
  })

  test("the same prompt in two rows, two samples of a row, and two seeds draw differently", async () => {
    const texts = async (seed: number) =>
      (
        await sampled(engine(64), {
          ...request,
          numGenerations: 2,
          seed,
          prompts: [prompt(6, "17+25="), prompt(12, "17+25=")],
        })
      ).map(({ completionTokens }) => completionTokens.join())
    const all = [...(await texts(4)), ...(await texts(5))]
    expect(new Set(all).size).toBe(8)
  })
})

test("tokens are drawn as often as their probability says", async () => {
  const numGenerations = 4000
  const [row] = mixedPrompts
  const trajectories = await sampled(engine(1000), {
    prompts: [row!],
    numGenerations,
    sampling: sampling({ maxCompletionLength: 1, temperature: 0.8 }),
    seed: 9,
  })
  const counts = new Map<number, { count: number; probability: number }>()
  for (const { completionTokens, samplerLogProbs } of trajectories) {
    const [token] = completionTokens
    const { count = 0 } = counts.get(token!) ?? {}
    counts.set(token!, { count: count + 1, probability: Math.exp(samplerLogProbs[0]!) })
  }
  // Each count lies within five standard deviations of its expectation; the seed is fixed, so this never varies.
  for (const { count, probability } of counts.values()) {
    const deviation = Math.sqrt(numGenerations * probability * (1 - probability))
    expect(Math.abs(count - numGenerations * probability)).toBeLessThan(5 * deviation + 1)
  }
  expect(counts.size).toBeGreaterThan(10)
})

describe("truncation keeps to its set", () => {
  /** The distribution of the first token after `text`, from its most likely on. */
  const distribution = async (text: string) => {
    const trainer = makeModelEngine(gpu, model)
    const { tokens } = prompt(0, text)
    const sequences = Array.from({ length: vocabularySize }, (_, token) => ({
      tokens: Int32Array.from([...tokens, token]),
      promptLength: tokens.length,
    }))
    const logProbs = await Effect.runPromise(trainer.logProbs(sequences, 1))
    return logProbs.map(([logProb], token) => ({ token, p: Math.exp(logProb!) })).toSorted((a, b) => b.p - a.p)
  }
  const firstTokens = async (text: string, changes: Partial<SamplingParams>) => {
    const params = sampling({ maxCompletionLength: 1, ...changes })
    const trajectories = await sampled(engine(1000), {
      prompts: [prompt(1, text)],
      numGenerations: 1000,
      sampling: params,
      seed: 3,
    })
    return new Set(trajectories.map(({ completionTokens }) => completionTokens[0]!))
  }

  test("of the k likeliest tokens, of the smallest set with share p, of those not too unlikely", async () => {
    const all = await distribution("ab")
    expect(all.reduce((sum, { p }) => sum + p, 0)).toBeCloseTo(1, 5)
    let share = 0
    const nucleus = all.filter(({ p }) => (share += p) - p < 0.7)
    const likely = all.filter(({ p }) => p >= 0.2 * all[0]!.p)
    const ids = (kept: typeof all) => new Set(kept.map(({ token }) => token))
    expect(await firstTokens("ab", { topK: 4 })).toEqual(ids(all.slice(0, 4)))
    expect(await firstTokens("ab", { topP: 0.7 })).toEqual(ids(nucleus))
    expect(await firstTokens("ab", { minP: 0.2 })).toEqual(ids(likely))
    expect(await firstTokens("ab", { temperature: 0 })).toEqual(ids(all.slice(0, 1)))
  })
})

describe("a completion ends", () => {
  test("at its length, at the end of text or at a stop token, which belongs to it", async () => {
    const params = sampling({ stopTokens: [10, 20], maxCompletionLength: 30 })
    const trajectories = await sampled(engine(50), {
      prompts: mixedPrompts,
      numGenerations: 8,
      sampling: params,
      seed: 5,
    })
    const stops = new Set([endOfText, 10, 20])
    for (const { completion, completionTokens, finishReason } of trajectories) {
      const first = completionTokens.findIndex((token) => stops.has(token))
      if (finishReason === "stop") expect(first).toBe(completionTokens.length - 1)
      else expect([first, completionTokens.length]).toEqual([-1, 30])
      expect(completion).toBe(tinyTokenizer.decode(completionTokens))
    }
    const reasons = trajectories.map(({ finishReason }) => finishReason)
    expect(new Set(reasons)).toEqual(new Set(["stop", "length"]))
    const endings = new Set(
      trajectories.filter(({ finishReason }) => finishReason === "stop").map((it) => it.completionTokens.at(-1)),
    )
    expect(endings).toEqual(stops)
  })

  test("before its stop token as it would without", async () => {
    const request = { prompts: mixedPrompts, numGenerations: 4, seed: 6 }
    const free = await sampled(engine(50), { ...request, sampling: sampling() })
    const stopped = await sampled(engine(50), { ...request, sampling: sampling({ stopTokens: [15] }) })
    stopped.forEach(({ completionTokens }, i) => {
      expect([...completionTokens]).toEqual([...free[i]!.completionTokens.subarray(0, completionTokens.length)])
    })
    expect(stopped.some(({ completionTokens }, i) => completionTokens.length < free[i]!.completionTokens.length)).toBe(
      true,
    )
  })
})

describe("a request that cannot be met is refused with the row's name", () => {
  const failure = (request: Parameters<ReturnType<typeof engine>["generate"]>[0]) =>
    Effect.runPromise(Effect.flip(Stream.runCollect(engine(8).generate(request))))

  test("a prompt longer than the context", async () => {
    const request = {
      prompts: mixedPrompts,
      numGenerations: 1,
      sampling: sampling({ maxCompletionLength: 60 }),
      seed: 0,
    }
    const error = await failure(request)
    expect(error._tag).toBe("RolloutError")
    expect(error.message).toBe(
      "row 40: a prompt of 40 tokens and a completion of 60 do not fit the model's context of 96; shorten the prompt or set maxCompletionLength lower",
    )
  })

  test("a prompt without tokens", async () => {
    const empty = { ...prompt(17, ""), tokens: new Int32Array(0) }
    const error = await failure({ prompts: [empty], numGenerations: 1, sampling: sampling(), seed: 0 })
    expect(error.message).toContain("row 17: the prompt has no tokens")
  })

  test("a device that is gone", async () => {
    const own = await openDevice()
    const lost = await loadModel(own, tinyFiles(), { fromScratch: { seed: 1 } })
    const orphan = makeRolloutEngine(own, lost, tinyTokenizer, { rolloutBatchSize: 4 })
    own.destroy()
    const error = await Effect.runPromise(
      Effect.flip(
        Stream.runCollect(orphan.generate({ prompts: mixedPrompts, numGenerations: 1, sampling: sampling(), seed: 0 })),
      ),
    )
    expect(error.message).toBe("sampling failed: decoding: the device was destroyed: open a new one")
  })
})

test("trajectories carry the version of the weights that sampled them", async () => {
  const sampler = engine(8)
  const request = {
    prompts: mixedPrompts.slice(0, 2),
    numGenerations: 1,
    sampling: sampling({ maxCompletionLength: 2 }),
    seed: 0,
  }
  const versions = async () => (await sampled(sampler, request)).map(({ policyVersion }) => policyVersion)
  expect(await versions()).toEqual([0, 0])
  await Effect.runPromise(sampler.syncWeights(5))
  expect(await versions()).toEqual([5, 5])
})
