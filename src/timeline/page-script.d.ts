/** The script of the page: `scripts/build.mjs` bundles `page/main.ts` into `dist/timeline/page-script.js`. */
export declare const PAGE_SCRIPT: string;
