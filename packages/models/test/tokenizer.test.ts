import { existsSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { characterTokenizer, createTokenizer, ModelError, type TokenizerFiles } from "../src/index.ts"

const fixtures = join(import.meta.dirname, "fixtures")
const stories = join(import.meta.dirname, "../../../../shared/models/stories260K")

const json = async (path: string) => JSON.parse(await readFile(path, "utf8"))
const files = async (directory: string): Promise<TokenizerFiles> => ({
  tokenizer: await json(join(directory, "tokenizer.json")),
  config: await json(join(directory, "tokenizer_config.json")),
})

type Cases = { encode: Array<[text: string, ids: number[]]>; decode: Array<[ids: number[], text: string]> }
const expected: Record<string, Cases> = await json(join(fixtures, "tokenizers.json"))

describe.each([
  { name: "byte-bpe", directory: join(fixtures, "byte-bpe") },
  { name: "stories260K", directory: stories },
])("$name agrees with the Rust library (skipped without the shared models)", ({ name, directory }) => {
  const present = existsSync(directory)

  test.skipIf(!present)("encoding", async () => {
    const { encode } = createTokenizer(await files(directory))
    const { encode: cases } = expected[name]!
    expect(cases.map(([text]) => [text, [...encode(text)]])).toEqual(cases)
  })

  test.skipIf(!present)("decoding, broken UTF-8 included", async () => {
    const { decode } = createTokenizer(await files(directory))
    const { decode: cases } = expected[name]!
    expect(cases.map(([ids]) => [ids, decode(ids)])).toEqual(cases)
  })
})

describe.skipIf(!existsSync(stories))("stories260K (skipped without the shared models)", () => {
  test("the empty text is BOS alone", async () => {
    const { encode, decode } = createTokenizer(await files(stories))
    expect([...encode("")]).toEqual([1])
    expect(decode(encode(""))).toBe("")
    expect(decode([])).toBe("")
  })

  test("texts come back as they were", async () => {
    const { encode, decode } = createTokenizer(await files(stories))
    for (const text of ["Once upon a time", " a  b ", "x\n\n y", "é☃🙂", "don't . do n't"]) {
      expect(decode(encode(text))).toBe(text)
    }
  })

  test("the end of text is the eos_token unless the model's config says otherwise", async () => {
    expect(createTokenizer(await files(stories)).endOfText).toEqual([2])
    expect(createTokenizer(await files(stories), [7, 2, 7]).endOfText).toEqual([7, 2])
    const { tokenizer } = await files(stories)
    const asObject = { tokenizer, config: { eos_token: { content: "</s>" } } }
    expect(createTokenizer(asObject)).toMatchObject({ endOfText: [2], vocabularySize: 512 })
    expect(createTokenizer({ tokenizer, config: {} }).endOfText).toEqual([])
  })
})

describe("characterTokenizer", () => {
  const characters = "0123456789+-*/= ()\n☃🙂"
  const special = { bos: "<bos>", eos: "<eos>" }

  test("round-trips through the library: BOS, then one token per character", () => {
    // What a directory holds is the text of the objects.
    const parsed = JSON.parse(JSON.stringify(characterTokenizer(characters, special))) as TokenizerFiles
    const { encode, decode, endOfText, vocabularySize } = createTokenizer(parsed)
    const text = "3*(7+5)  =\n36 🙂☃"
    const ids = encode(text)
    expect(ids.length).toBe(1 + Array.from(text).length)
    expect([...encode("01")]).toEqual([0, 2, 3])
    expect([...encode("")]).toEqual([0])
    expect(decode(ids)).toBe(text)
    expect(decode([...ids, 1])).toBe(text)
    expect(endOfText).toEqual([1])
    expect(vocabularySize).toBe(2 + Array.from(characters).length)
  })

  test("refuses a character outside of the vocabulary by name", () => {
    const { encode } = createTokenizer(characterTokenizer(characters, special), [], "toy/tokenizer.json")
    expect(() => encode("1+é")).toThrow(ModelError)
    expect(() => encode("1+é")).toThrow(/^toy\/tokenizer\.json: "é" is not in the vocabulary/)
  })

  test("refuses a vocabulary that is not one", () => {
    expect(() => characterTokenizer("aba", special)).toThrow(/"a" is given twice/)
    expect(() => characterTokenizer(["ab"], special)).toThrow(/"ab" is not one character/)
    expect(() => characterTokenizer("a", { bos: "x", eos: "x" })).toThrow(/"x" is given twice/)
  })
})

test("ids without a token give no text", async () => {
  const { decode } = createTokenizer(await files(join(fixtures, "byte-bpe")))
  expect(decode([5000, 5001])).toBe("")
})

test("a broken tokenizer.json is refused by name", () => {
  expect(() => createTokenizer({ tokenizer: { model: {} }, config: {} }, [], "x/tokenizer.json")).toThrow(
    /^x\/tokenizer\.json: cannot be used/,
  )
})
