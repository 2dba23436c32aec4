/** The name under which containerd knows the snapshotter: in its configuration, in images and in containers. */
export const SNAPSHOTTER_NAME = 'latchkey';
