export * from "./run-directory/index.ts"
export * from "./webgpu/index.ts"
