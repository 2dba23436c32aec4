/** A tree of lines, as `tree` and `git log --graph` draw them. */

export interface TreeNode {
  /** One line, already safe for a terminal. */
  readonly text: string;
  readonly children?: readonly TreeNode[] | undefined;
}

/** Draws a tree. */
export function formatTree(root: TreeNode): string {
  return `${[root.text, ...branches(root.children ?? [])].join('\n')}\n`;
}

function branches(nodes: readonly TreeNode[]): string[] {
  return nodes.flatMap(({ text, children = [] }, at) => {
    const isLast = at === nodes.length - 1;
    return [
      `${isLast ? '└─' : '├─'} ${text}`,
      ...branches(children).map((line) => `${isLast ? '  ' : '│ '} ${line}`),
    ];
  });
}
