import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { Effect, FileSystem, Layer, type Path, type Scope } from "effect"
import type { Sample } from "@rlpt/core"

/** The real file system: what these tests check is what is on disk. */
export const files = Layer.merge(NodeFileSystem.layer, NodePath.layer)

/** Runs `program` in a fresh directory that is removed afterwards. */
export const inTemporaryDirectory = <A, E>(
  program: (directory: string) => Effect.Effect<A, E, FileSystem.FileSystem | Path.Path | Scope.Scope>,
): Effect.Effect<A, unknown> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    return yield* program(yield* fs.makeTempDirectoryScoped({ prefix: "rlpt-run-" }))
  }).pipe(Effect.scoped, Effect.provide(files))

export const sample = (step: number, row: number): Sample => ({
  step,
  row,
  sample: 0,
  prompt: "1 + 1 =",
  completion: " 2\n",
  rewards: { correct: 1, format: null },
  reward: 1,
  advantage: 0.5,
  finishReason: "stop",
})
