import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, test } from "vitest"
import * as library from "../src/index.ts"
import { testDevice } from "./device.ts"

const text = readFileSync(join(import.meta.dirname, "../../../docs/tensor.md"), "utf8")
const reference = text.slice(text.indexOf("## Reference"))
const gpu = await testDevice()

/** Names between backquotes in the first column of the reference tables. */
const named = reference
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .flatMap((line) => [...line.split(" | ")[0]!.matchAll(/`([^`]+)`/g)].map((match) => match[1]!.replace(/\(.*$/, "")))
  .filter((name) => /^[\w.]+$/.test(name))

const spaces = { nn: library.nn, random: library.random }

test("everything in the reference exists", () => {
  const has = (holder: object, name: string) => name in holder
  const unknown = named.filter((name) => {
    const [holder, member] = name.split(".")
    if (member === undefined) return !has(library, name) && !has(library.Tensor.prototype, name)
    if (holder === "gpu") return !has(gpu, member)
    if (holder === "x") return !has(library.Tensor.prototype, member)
    return !has(spaces[holder as keyof typeof spaces], member)
  })
  expect(unknown).toEqual([])
})

test("everything public is in the reference", () => {
  const internal = new Set(["Tensor", "Gpu", "Scope"])
  const names = [
    ...Object.keys(library).filter((name) => !(name in spaces)),
    ...Object.entries(spaces).flatMap(([space, members]) => Object.keys(members).map((name) => `${space}.${name}`)),
  ]
  const mentioned = new Set(
    [...text.matchAll(/`([^`\n]+)`/g)].flatMap((match) =>
      (match[1]!.match(/[\w.]+/g) ?? []).flatMap((name) => [name, name.split(".").at(-1)!]),
    ),
  )
  expect(names.filter((name) => !internal.has(name) && !mentioned.has(name))).toEqual([])
  const methods = [library.Tensor.prototype, Object.getPrototypeOf(library.Tensor.prototype) as object].flatMap(
    (prototype) => Object.getOwnPropertyNames(prototype),
  )
  const forTheLibrary = new Set([
    "constructor",
    "gpu",
    "value",
    "derive",
    "beside",
    "map",
    "size",
    "shape",
    "dtype",
    "toString",
  ])
  expect(methods.filter((name) => !forTheLibrary.has(name) && !mentioned.has(name))).toEqual([])
})

test("the first program of the page runs, and learns", async () => {
  const code = /```ts\n([\s\S]*?)```/
    .exec(text)![1]!
    .replace(/^import .*$/m, "")
    .replace("console.log", "losses.push")
  const { adamw, valueAndGrad } = library
  const losses: number[] = []
  const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => (...args: unknown[]) => Promise<void>
  const run = new AsyncFunction("openDevice", "adamw", "valueAndGrad", "losses", code)
  await run(() => Promise.resolve(gpu), adamw, valueAndGrad, losses)
  expect(losses.length).toBe(100)
  expect(losses.at(-1)).toBeLessThan(losses[0]! / 2)
})
