import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { memorySource } from "../../src/files.ts"
import { Metadata } from "../../src/gguf/metadata.ts"
import { readGgufHeader, type GgufValue } from "../../src/gguf/reader.ts"
import { tokenizerFromGguf } from "../../src/gguf/tokenizer.ts"
import { createTokenizer, ModelError } from "../../src/index.ts"
import { fixtures } from "../fixtures.ts"

const directory = join(fixtures, "gguf-tokenizers")
const cases = JSON.parse(readFileSync(join(directory, "cases.json"), "utf8")) as Readonly<
  Record<string, ReadonlyArray<readonly [text: string, ids: ReadonlyArray<number>, decoded: string]>>
>

const metadataOf = async (name: string): Promise<ReadonlyMap<string, GgufValue>> => {
  const source = memorySource({ [name]: new Uint8Array(readFileSync(join(directory, name))) })
  return (await readGgufHeader(await source.open(name), name)).metadata
}

describe.each(Object.keys(cases))("%s", (name) => {
  test("gives the ids and texts of the Rust library", async () => {
    const files = tokenizerFromGguf(new Metadata(await metadataOf(`${name}.gguf`), name), name)!
    const { encode, decode } = createTokenizer(files)
    const results = cases[name]!.map(([text, ids]) => [text, [...encode(text)], decode(ids)])
    expect(results).toEqual(cases[name])
  })
})

describe("a vocabulary that cannot be used is refused", () => {
  const edited = async (name: string, edit: (metadata: Map<string, GgufValue>) => void) => {
    const metadata = new Map(await metadataOf(name))
    edit(metadata)
    return () => tokenizerFromGguf(new Metadata(metadata, "x.gguf"), "x.gguf")
  }

  test.each([
    ["an unknown kind", "tokenizer.ggml.model", "bert", /^x\.gguf: tokenizer "bert" is not supported/],
    ["an unknown pre-tokenizer", "tokenizer.ggml.pre", "klingon", /^x\.gguf: pre-tokenizer "klingon" is not supported/],
    ["no pre-tokenizer", "tokenizer.ggml.pre", "default", /does not say how text is cut into words/],
    ["a list of another type", "tokenizer.ggml.tokens", [1, 2], /"tokenizer\.ggml\.tokens" is not a list of strings/],
    ["a token twice", "tokenizer.ggml.tokens", ["a", "b", "a"], /token "a" has two ids, 0 and 2/],
    ["a special token beyond the list", "tokenizer.ggml.bos_token_id", 9999, /"tokenizer\.ggml\.bos_token_id" is 9999/],
  ] as const)("%s", async (_, key, value, message) => {
    const read = await edited("llama-bpe.gguf", (metadata) => metadata.set(key, value))
    expect(read).toThrow(ModelError)
    expect(read).toThrow(message)
  })

  test("scores for other tokens", async () => {
    const read = await edited("spm.gguf", (metadata) => metadata.set("tokenizer.ggml.scores", [0]))
    expect(read).toThrow(/has \d+ tokens but 1 scores/)
  })

  test("no merges", async () => {
    const read = await edited("gpt-2.gguf", (metadata) => metadata.delete("tokenizer.ggml.merges"))
    expect(read).toThrow(/metadata "tokenizer\.ggml\.merges" is missing/)
  })
})
