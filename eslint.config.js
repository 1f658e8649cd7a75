import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist/", "node_modules/", "runs/", ".scmoe/", "src/engine/assembly/"] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      // The two programs that together hold every file; one program each instead of a service that searches for them.
      parserOptions: { project: ["tsconfig.test.json", "src/timeline/page/tsconfig.json"], tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      eqeqeq: ["error", "always", { null: "ignore" }],
    },
  },
  { files: ["src/**/*.ts"], rules: { "max-lines": ["error", { max: 300, skipBlankLines: false, skipComments: false }] } },
);
