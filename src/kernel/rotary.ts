/** Radians per position in column i of rotary tables of `width` columns, whose halves are alike (Hugging Face's rotate-half convention). */
export function rotaryFrequency(i: number, width: number, theta: number): number {
  return Math.pow(theta, (-2 * (i % (width / 2))) / width);
}
