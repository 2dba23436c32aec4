/** A file of a layer, as tests and the demo write it down. */
export interface LayerFile {
  /** Path in the image, without a leading slash. */
  readonly path: string;
  readonly content: string;
  readonly mode?: number;
}
