/**
 * Which blocks of prompts a rank's store holds. A block is a complete chunk of a prompt and belongs to all tokens up to its end: blocks form
 * a tree, whose edges are the chunks' tokens themselves, so that nothing is taken for equal that is not.
 */
export interface Block {
  /** From 0; numbers of dropped blocks are used again. */
  readonly id: number;
  readonly tokens: string;
  /** Undefined: the first chunk of a prompt. */
  readonly parent: Block | undefined;
  readonly children: Map<string, Block>;
}

export class PrefixStore {
  private readonly roots = new Map<string, Block>();
  /** Least recently used first; a block always before its parent, so that the first one has no children. */
  private readonly order = new Map<number, Block>();
  private readonly freeIds: number[] = [];

  /** @param chunk rows of a block */
  constructor(private readonly chunk: number) {}

  /** Rows that the blocks take. */
  get rows(): number {
    return this.order.size * this.chunk;
  }

  /** The longest run of blocks that the prompt begins with, at most `limit`, first one first. */
  match(prompt: readonly number[], limit: number): Block[] {
    const path: Block[] = [];
    while (path.length < limit) {
      const block = this.child(path.at(-1), this.key(prompt, path.length));
      if (block === undefined) break;
      path.push(block);
    }
    return path;
  }

  /** The prompt's chunk `index`, if it is there. @param parent the block before it */
  find(parent: Block | undefined, prompt: readonly number[], index: number): Block | undefined {
    return this.child(parent, this.key(prompt, index));
  }

  /** A new block for the prompt's chunk `index`, which is not there. @param parent the block before it, which is */
  add(parent: Block | undefined, prompt: readonly number[], index: number): Block {
    const tokens = this.key(prompt, index);
    const block: Block = {
      id: this.freeIds.pop() ?? this.order.size,
      tokens,
      parent,
      children: new Map(),
    };
    (parent?.children ?? this.roots).set(tokens, block);
    this.touch(block);
    return block;
  }

  /** A block and all before it have been used. */
  touch(block: Block | undefined): void {
    for (let at = block; at !== undefined; at = at.parent) {
      this.order.delete(at.id);
      this.order.set(at.id, at);
    }
  }

  /** The block that is dropped next. */
  get oldest(): Block | undefined {
    for (const block of this.order.values()) return block;
    return undefined;
  }

  /** Forgets a block that no other builds on. */
  drop(block: Block): void {
    this.order.delete(block.id);
    this.freeIds.push(block.id);
    (block.parent?.children ?? this.roots).delete(block.tokens);
  }

  private child(parent: Block | undefined, tokens: string): Block | undefined {
    return (parent?.children ?? this.roots).get(tokens);
  }

  private key(prompt: readonly number[], index: number): string {
    return prompt.slice(index * this.chunk, (index + 1) * this.chunk).join();
  }
}
