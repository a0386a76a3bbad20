export * from "./run-directory/index.ts"
