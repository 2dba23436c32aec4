/** Problem details (RFC 9457) of the admin API. */
import * as z from 'zod';

/** RFC 9457, with our code and hint. */
export const problemSchema = z.object({
  type: z.literal('about:blank'),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string(),
  hint: z.string().optional(),
});

export type Problem = z.infer<typeof problemSchema>;
