import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import prompts from "../src/index.ts"

const open = (options: unknown) =>
  Effect.scoped(Effect.flatMap(prompts.configure(options), (make) => make({ directory: "/", runDirectory: "/" })))

it.effect("serves the prompts in order, an empty one included", () =>
  Effect.gen(function* () {
    const task = yield* open({ prompts: ["", "Once"], evalPrompts: ["The end"] })
    expect(task.train.size).toBe(2)
    expect(yield* task.train.row(0)).toEqual({ prompt: "", columns: {} })
    expect(yield* task.train.row(1)).toEqual({ prompt: "Once", columns: {} })
    expect(yield* task.eval!.row(0)).toEqual({ prompt: "The end", columns: {} })
    expect((yield* Effect.flip(task.train.row(2))).message).toBe("there is no prompt 2: there are 2")
  }),
)

it.effect("has no held-out split unless it is given one, and no task without prompts", () =>
  Effect.gen(function* () {
    expect((yield* open({ prompts: [""] })).eval).toBeUndefined()
    expect(yield* Effect.flip(prompts.configure({ prompts: [] }))).toHaveLength(1)
    expect(yield* Effect.flip(prompts.configure({}))).toEqual([{ path: ["prompts"], message: "Missing key" }])
  }),
)
