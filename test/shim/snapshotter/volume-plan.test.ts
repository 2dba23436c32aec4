import { describe, expect, test } from 'vitest';
import { type VolumeStep, deviceMapperPlan, gocryptfsPlan } from '../../../shim/snapshotter/volume-plan.ts';

const place = {
  file: '/state/plaintext.volume',
  directory: '/state/plaintext',
  cipherDirectory: '/state/plaintext-cipher',
  deviceName: 'latchkey-0123',
};

function commandLines(steps: readonly VolumeStep[]): string[] {
  return steps.map(({ program, args, takesKey }) =>
    [program, ...args, takesKey === true ? '< key' : ''].join(' ').trim(),
  );
}

describe('the commands of an encrypted volume', () => {
  test('with dm-crypt: no header, the key on standard input only, no journal', () => {
    const { open, close } = deviceMapperPlan(place);
    expect(commandLines(open)).toEqual([
      'cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file - --batch-mode /state/plaintext.volume latchkey-0123 < key',
      'mkfs.ext4 -q -F -b 4096 -m 0 -O ^has_journal -E nodiscard,lazy_itable_init=1 /dev/mapper/latchkey-0123',
      'mount -t ext4 -o nodev,noatime /dev/mapper/latchkey-0123 /state/plaintext',
    ]);
    expect(commandLines(close)).toEqual(['cryptsetup close --deferred latchkey-0123']);
  });

  test('with gocryptfs: in a file system of its own, which bounds it', () => {
    const { open, close } = gocryptfsPlan(place);
    expect(commandLines(open)).toEqual([
      'mkfs.ext4 -q -F -b 4096 -m 0 -O ^has_journal -E nodiscard,lazy_itable_init=1 /state/plaintext.volume',
      'mount -t ext4 -o loop,nodev,nosuid,noexec,noatime /state/plaintext.volume /state/plaintext-cipher',
      'mkdir -m 700 /state/plaintext-cipher/cipher',
      'gocryptfs -init -q -scryptn 10 /state/plaintext-cipher/cipher < key',
      'gocryptfs -q -nosyslog -allow_other -suid /state/plaintext-cipher/cipher /state/plaintext < key',
    ]);
    expect(open.filter(({ staysBehind }) => staysBehind)).toHaveLength(1);
    expect(close).toEqual([]);
  });
});
