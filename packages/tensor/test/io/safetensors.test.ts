import { describe, expect, test } from "vitest"
import {
  readSafetensors,
  SafetensorsError,
  safetensorsFromFloat32,
  safetensorsToArray,
  safetensorsToFloat32,
  writeSafetensors,
} from "../../src/io/safetensors.ts"

const fromBase64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))

/**
 * safetensors.torch.save({"w.f32": [[1.5, -2.25], [3e-39, inf]], "b.bf16": [1, -0.3333, 3e38],
 * "a.f16": [0.1, -65504, 6e-8], "i": int32 [-7]}, {"format": "pt"}), by the Python package.
 */
const reference = fromBase64(
  "EAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJ3LmYzMiI6eyJkdHlwZSI6IkYzMiIsInNoYXBlIjpbMiwyXSwiZGF0YV9v" +
    "ZmZzZXRzIjpbMCwxNl19LCJpIjp7ImR0eXBlIjoiSTMyIiwic2hhcGUiOlsxXSwiZGF0YV9vZmZzZXRzIjpbMTYsMjBdfSwiYi5iZjE2Ijp7ImR0" +
    "eXBlIjoiQkYxNiIsInNoYXBlIjpbM10sImRhdGFfb2Zmc2V0cyI6WzIwLDI2XX0sImEuZjE2Ijp7ImR0eXBlIjoiRjE2Iiwic2hhcGUiOlszXSwi" +
    "ZGF0YV9vZmZzZXRzIjpbMjYsMzJdfX0gICAgIAAAwD8AABDAyKogAAAAgH/5////gD+rvmJ/Zi7/+wEA",
)

/** A file with the given header (an object, or text as it stands) and data. */
const file = (header: unknown, data: Uint8Array = new Uint8Array(0), headerBytes?: number) => {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header))
  const bytes = new Uint8Array(8 + text.length + data.length)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes ?? text.length), true)
  bytes.set(text, 8)
  bytes.set(data, 8 + text.length)
  return bytes
}

const f32 = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
  dtype: "F32",
  shape,
  data_offsets: [begin, end],
})

describe("a file of the Python package", () => {
  test("is read: shapes, values, metadata", () => {
    const { tensors, metadata } = readSafetensors(reference, "reference.safetensors")
    const values = (name: string) => [...safetensorsToFloat32(tensors.get(name)!)]
    expect(metadata).toEqual({ format: "pt" })
    expect(tensors.get("w.f32")!.shape).toEqual([2, 2])
    expect(values("w.f32")).toEqual([1.5, -2.25, Math.fround(3e-39), Infinity])
    expect(values("b.bf16")).toEqual([1, -0.333984375, 3.00405527047391e38])
    expect(values("a.f16")).toEqual([0.0999755859375, -65504, 2 ** -24])
    expect(new Int32Array(tensors.get("i")!.data.slice().buffer)).toEqual(Int32Array.of(-7))
  })

  test("is written again byte for byte, whatever the order of insertion", () => {
    const { tensors, metadata } = readSafetensors(reference, "reference.safetensors")
    expect(writeSafetensors(tensors, metadata)).toEqual(reference)
    expect(writeSafetensors(new Map([...tensors].reverse()), metadata)).toEqual(reference)
  })

  test("is read from the middle of a buffer without copying", () => {
    const shifted = new Uint8Array(reference.length + 3)
    shifted.set(reference, 3)
    const tensor = readSafetensors(shifted.subarray(3), "shifted").tensors.get("w.f32")!
    expect(tensor.data.buffer).toBe(shifted.buffer)
    expect(safetensorsToFloat32(tensor)[1]).toBe(-2.25)
  })

  test("is read from Node's Buffer, as readFile gives it", () => {
    const { tensors } = readSafetensors(Buffer.from(reference), "buffer")
    expect([...safetensorsToFloat32(tensors.get("w.f32")!)]).toEqual([1.5, -2.25, Math.fround(3e-39), Infinity])
    expect([...safetensorsToFloat32(tensors.get("a.f16")!)]).toEqual([0.0999755859375, -65504, 2 ** -24])
  })
})

/**
 * {"f32": [1.5], "f64": [0.1, 1e300], "i64": [-5, 2³¹ − 1], "large": int64 [2³¹], "i16": [-300], "u16": [65535], "u8": [0, 255],
 * "i8": [-1], "bool": [true, false, true], "f8": float8_e4m3fn [1], "f8u": float8_e8m0fnu [1], "c64": [1 + 2i], "f4": [[0.5, 1]]}
 * serialized by the Python package, 0.8.0.
 */
const everyType = fromBase64(
  "8AIAAAAAAAB7Imk2NCI6eyJkdHlwZSI6Ikk2NCIsInNoYXBlIjpbMl0sImRhdGFfb2Zmc2V0cyI6WzAsMTZdfSwibGFyZ2UiOnsiZHR5cGUiOiJJNjQi" +
    "LCJzaGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOlsxNiwyNF19LCJmNjQiOnsiZHR5cGUiOiJGNjQiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOlsy" +
    "NCw0MF19LCJjNjQiOnsiZHR5cGUiOiJDNjQiLCJzaGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOls0MCw0OF19LCJmMzIiOnsiZHR5cGUiOiJGMzIiLCJz" +
    "aGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOls0OCw1Ml19LCJ1MTYiOnsiZHR5cGUiOiJVMTYiLCJzaGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOls1Miw1" +
    "NF19LCJpMTYiOnsiZHR5cGUiOiJJMTYiLCJzaGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOls1NCw1Nl19LCJmOHUiOnsiZHR5cGUiOiJGOF9FOE0wIiwi" +
    "c2hhcGUiOlsxXSwiZGF0YV9vZmZzZXRzIjpbNTYsNTddfSwiZjgiOnsiZHR5cGUiOiJGOF9FNE0zIiwic2hhcGUiOlsxXSwiZGF0YV9vZmZzZXRzIjpb" +
    "NTcsNThdfSwiaTgiOnsiZHR5cGUiOiJJOCIsInNoYXBlIjpbMV0sImRhdGFfb2Zmc2V0cyI6WzU4LDU5XX0sInU4Ijp7ImR0eXBlIjoiVTgiLCJzaGFw" +
    "ZSI6WzJdLCJkYXRhX29mZnNldHMiOls1OSw2MV19LCJmNCI6eyJkdHlwZSI6IkY0Iiwic2hhcGUiOlsxLDJdLCJkYXRhX29mZnNldHMiOls2MSw2Ml19" +
    "LCJib29sIjp7ImR0eXBlIjoiQk9PTCIsInNoYXBlIjpbM10sImRhdGFfb2Zmc2V0cyI6WzYyLDY1XX19ICAgIPv/////////////fwAAAAAAAACAAAAA" +
    "AJqZmZmZmbk/nHUAiDzkN34AAIA/AAAAQAAAwD///9T+fzj/AP8hAQAB",
)

describe("every type of the format", () => {
  const { tensors } = readSafetensors(everyType, "every.safetensors")
  const array = (name: string) => safetensorsToArray(tensors.get(name)!, { name, file: "every.safetensors" })

  test.each([
    ["f32", Float32Array.of(1.5)],
    ["f64", Float32Array.of(0.1, Number.POSITIVE_INFINITY)],
    ["i64", Int32Array.of(-5, 2 ** 31 - 1)],
    ["i16", Int32Array.of(-300)],
    ["i8", Int32Array.of(-1)],
    ["u16", Uint32Array.of(65535)],
    ["u8", Uint32Array.of(0, 255)],
    ["bool", Uint32Array.of(1, 0, 1)],
  ] as const)("%s becomes what a tensor takes", (name, expected) => {
    expect(array(name)).toEqual(expected)
  })

  test.each([
    ["large", /every\.safetensors: tensor "large": I64: element 0 is 2147483648, which i32 cannot hold/],
    ["f8", /tensor "f8": no tensor can hold elements of F8_E4M3/],
    ["f8u", /tensor "f8u": no tensor can hold elements of F8_E8M0/],
    ["c64", /tensor "c64": no tensor can hold elements of C64/],
    ["f4", /tensor "f4": no tensor can hold elements of F4/],
  ] as const)("%s is refused, by itself", (name, message) => {
    expect(() => array(name)).toThrow(SafetensorsError)
    expect(() => array(name)).toThrow(message)
    expect(tensors.get(name)!.data.length).toBeGreaterThan(0)
  })

  test("is written again byte for byte", () => {
    expect(writeSafetensors(tensors)).toEqual(everyType)
  })
})

test("scalars, empty tensors and awkward names round-trip", () => {
  const tensors = {
    "": safetensorsFromFloat32(Float32Array.of(1), []),
    "10": safetensorsFromFloat32(new Float32Array(0), [0, 5]),
    "2": safetensorsFromFloat32(Float32Array.of(2, 3), [2], "BF16"),
    'a"\\\n☃': safetensorsFromFloat32(Float32Array.of(0.5), [1], "F16"),
    ["__proto__"]: safetensorsFromFloat32(Float32Array.of(4), [1, 1]),
  }
  const { tensors: back } = readSafetensors(writeSafetensors(new Map(Object.entries(tensors))), "x")
  expect(back.size).toBe(5)
  for (const [name, tensor] of Object.entries(tensors)) {
    expect(back.get(name)!.shape).toEqual(tensor.shape)
    expect([...safetensorsToFloat32(back.get(name)!)]).toEqual([...safetensorsToFloat32(tensor)])
  }
  expect(readSafetensors(writeSafetensors(new Map()), "empty").tensors.size).toBe(0)
})

describe("a bad file is refused by name", () => {
  const cases: ReadonlyArray<readonly [string, Uint8Array, RegExp]> = [
    ["no bytes", new Uint8Array(3), /at least 8 bytes, this one has 3/],
    [
      "header beyond the file",
      file({}, undefined, 50),
      /truncated: the header ends at byte 58 .* 48 bytes are missing/,
    ],
    ["huge header", file({}, undefined, 2 ** 40), /header has 1099511627776 bytes/],
    ["invalid JSON", file("{oops"), /header is not JSON/],
    ["invalid UTF-8", file({}).fill(0xff, 8), /header is not JSON/],
    ["not an object", file("[]"), /not a JSON object/],
    ["null", file("null"), /not a JSON object/],
    ["metadata not strings", file({ __metadata__: { a: 1 } }), /__metadata__/],
    ["entry not an object", file({ w: 3 }), /tensor "w": its header entry/],
    ["dtype", file({ w: { ...f32(0, 8), dtype: "I63" } }, new Uint8Array(8)), /tensor "w": dtype "I63" is none of the/],
    ["inherited dtype", file({ w: { ...f32(0, 0), dtype: "toString" } }), /dtype "toString" is none of the format/],
    ["part of a byte", file({ w: { ...f32(0, 2, [3]), dtype: "F4" } }, new Uint8Array(2)), /takes 1\.5 bytes, not 2/],
    ["negative shape", file({ w: f32(0, 4, [-1]) }, new Uint8Array(4)), /shape \[-1\]/],
    ["fractional shape", file({ w: f32(0, 4, [0.5, 2]) }, new Uint8Array(4)), /shape \[0.5,2\]/],
    ["shape too large", file({ w: f32(0, 4, [2 ** 40, 2 ** 40]) }, new Uint8Array(4)), /takes .* bytes, not 4/],
    ["size ≠ shape", file({ w: f32(0, 8, [3]) }, new Uint8Array(8)), /F32 of shape \[3\] takes 12 bytes, not 8/],
    ["offsets reversed", file({ w: { ...f32(0, 4), data_offsets: [4, 0] } }), /data_offsets \[4,0\]/],
    ["offsets missing", file({ w: { dtype: "F32", shape: [] } }), /data_offsets undefined/],
    ["truncated", file({ a: f32(0, 8), b: f32(8, 20) }, new Uint8Array(13)), /tensor "b": truncated.* 7 bytes are mi/],
    ["overlap", file({ a: f32(0, 8), b: f32(4, 8) }, new Uint8Array(8)), /tensor "b": its data overlap/],
    ["same bytes twice", file({ a: f32(0, 8), b: f32(0, 8) }, new Uint8Array(8)), /tensor "b": its data overlap/],
    ["gap", file({ a: f32(0, 4), b: f32(8, 12) }, new Uint8Array(12)), /tensor "b": 4 unused bytes before it/],
    ["trailing bytes", file({ a: f32(0, 4) }, new Uint8Array(9)), /5 bytes after the last tensor/],
  ]
  test.each(cases)("%s", (_, bytes, message) => {
    const read = () => readSafetensors(bytes, "weights.safetensors")
    expect(read).toThrow(SafetensorsError)
    expect(read).toThrow(message)
    expect(read).toThrow(/^weights\.safetensors: /)
  })

  test("writing a tensor whose bytes do not fit its shape", () => {
    const tensor = { dtype: "F32", shape: [2], data: new Uint8Array(4) } as const
    expect(() => writeSafetensors(new Map([["w", tensor]]))).toThrow(
      /tensor "w": F32 of shape \[2\] takes 8 bytes, not 4/,
    )
    expect(() => writeSafetensors(new Map([["__metadata__", { ...tensor, shape: [1] }]]))).toThrow(/reserved/)
  })
})

test("mutated files are read or refused, never worse", () => {
  let state = 12345
  const random = (n: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * n)
  }
  let refused = 0
  for (let round = 0; round < 5000; round++) {
    let bytes = reference.slice()
    const headerEnd = 8 + 0x110
    for (let n = 1 + random(3); n > 0; n--) {
      const at = random(10) === 0 ? random(8) : 8 + random(headerEnd - 8)
      // Half of the edits put one character of JSON where another was: they get past the parser more often.
      bytes[at] = random(2) === 0 ? random(256) : '0123456789[]{}",:-.eFIB'.charCodeAt(random(23))
    }
    if (random(4) === 0) bytes = bytes.slice(0, random(bytes.length + 1))
    try {
      const { tensors } = readSafetensors(bytes, "fuzz")
      for (const { data, shape, dtype } of tensors.values()) {
        const bits = dtype === "BOOL" ? 8 : Number(/\d+/.exec(dtype)![0])
        expect(data.length).toBe((bits * shape.reduce((a, b) => a * b, 1)) / 8)
      }
    } catch (error) {
      expect(error).toBeInstanceOf(SafetensorsError)
      refused++
    }
  }
  expect(refused).toBeGreaterThan(2500)
})
