import { describe, expect, test } from "vitest"
import { NpyError, readNpy, writeNpy } from "../../src/index.ts"

const bytes = (base64: string) => new Uint8Array(Buffer.from(base64, "base64"))
const read = (base64: string) => readNpy(bytes(base64), "a.npy")

/** Written by NumPy 2.4.6, `numpy.lib.format.write_array`. */
const files = {
  f4: "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAMA/AAAAwAAAQEBvEoM7AACgQAAAwEA=",
  fortran:
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMiwgMywgNCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAABAQQAAgEAAAIBBAAAAQQAAoEEAAIA/AABQQQAAoEAAAIhBAAAQQQAAqEEAAABAAABgQQAAwEAAAJBBAAAgQQAAsEEAAEBAAABwQQAA4EAAAJhBAAAwQQAAuEE=",
  f8: "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAqamZmZmZm5PwAAAAAAAPh/AAAAAAAA8P8=",
  f2: "k05VTVBZAQB2AHsnZGVzY3InOiAnPGYyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAPAA4//s=",
  bigEndian:
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPmY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAo/wAAAwAAAAEBAAAA=",
  i8: "k05VTVBZAQB2AHsnZGVzY3InOiAnPGk4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAr7/////////////38AAAAA",
  large:
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPGk4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDEsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAACAAAAAAA==",
  u1: "k05VTVBZAQB2AHsnZGVzY3InOiAnfHUxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDEsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoA/w==",
  b1: "k05VTVBZAQB2AHsnZGVzY3InOiAnfGIxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAE=",
  i2BigEndian:
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPmkyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAr//gEs",
  scalar:
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAOBA",
  empty:
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPGk0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDAsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAo=",
  version2:
    "k05VTVBZAgB0AAAAeydkZXNjcic6ICc8dTQnLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMiwpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAAAAgAAAA==",
  complex:
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPGM4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDEsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAACAPw==",
  record:
    "k05VTVBZAQB2AHsnZGVzY3InOiBbKCdhJywgJzxpNCcpLCAoJ2InLCAnPGY0JyldLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMSwpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAAAAAAAQA==",
} as const

describe("reading .npy files", () => {
  test.each([
    ["f4", [3, 2], "f32", [1.5, -2, 3, Math.fround(4e-3), 5, 6]],
    ["fortran", [2, 3, 4], "f32", Array.from({ length: 24 }, (_, i) => i)],
    ["f8", [3], "f32", [Math.fround(0.1), Number.NaN, Number.NEGATIVE_INFINITY]],
    ["f2", [3], "f32", [1, 0.5, -65504]],
    ["bigEndian", [3], "f32", [1.5, -2, 3]],
    ["i8", [2], "i32", [-5, 2 ** 31 - 1]],
    ["u1", [1, 2], "u32", [0, 255]],
    ["b1", [3], "u32", [1, 0, 1]],
    ["i2BigEndian", [2], "i32", [-2, 300]],
    ["scalar", [], "f32", [7]],
    ["empty", [0, 3], "i32", []],
    ["version2", [2], "u32", [1, 2]],
  ] as const)("%s", (name, shape, dtype, values) => {
    const array = read(files[name])
    expect(array).toMatchObject({ shape, dtype })
    expect([...array.data]).toEqual([...values])
  })

  test.each([
    ["complex", /a\.npy: holds elements of <c8/],
    ["record", /a\.npy: holds elements of \[\(a, <i4\)/],
    ["large", /a\.npy: element 0 is 2147483648, which i32 cannot hold/],
  ] as const)("refuses %s", (name, message) => {
    expect(() => read(files[name])).toThrow(NpyError)
    expect(() => read(files[name])).toThrow(message)
  })

  test("refuses what is cut short or is something else", () => {
    const whole = bytes(files.f4)
    expect(() => readNpy(whole.subarray(0, whole.length - 1), "b")).toThrow(
      /b: has 23 bytes of data, shape \[3, 2\] of <f4 needs 24/,
    )
    expect(() => readNpy(whole.subarray(0, 40), "b")).toThrow(/ends within its header/)
    expect(() => readNpy(whole.subarray(1), "b")).toThrow(/is not a \.npy file/)
    expect(() => readNpy(whole.with(6, 9), "b")).toThrow(/is of format 9\.0/)
    expect(() => readNpy(new Uint8Array(0), "b")).toThrow(NpyError)
  })

  test("from the middle of a buffer", () => {
    const shifted = new Uint8Array(1 + bytes(files.f4).length)
    shifted.set(bytes(files.f4), 1)
    expect([...readNpy(shifted.subarray(1), "c").data].slice(0, 2)).toEqual([1.5, -2])
  })
})

describe("writing .npy files", () => {
  test.each(["f4", "scalar", "empty"] as const)("%s: the bytes that NumPy writes", (name) => {
    const { data, shape } = read(files[name])
    expect(Buffer.from(writeNpy(data, shape)).toString("base64")).toBe(files[name])
  })

  test("what is written is read back", () => {
    const data = new Uint32Array([1, 2 ** 32 - 1])
    expect(readNpy(writeNpy(data, [2, 1]), "d")).toEqual({ shape: [2, 1], dtype: "u32", data })
    expect(() => writeNpy(data, [3])).toThrow(RangeError)
  })
})
