// Encrypts a layer with the Go library that skopeo and buildah are built on, once for every recipient: the second and
// later ones are added to the annotations of the first, which no command of Debian does. Prints a descriptor.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	"github.com/containers/ocicrypt/helpers"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// add-recipient LAYER MEDIA-TYPE PRIVATE-KEY CIPHERTEXT RECIPIENT...
func main() {
	layer, err := os.ReadFile(os.Args[1])
	check(err)
	descriptor := ocispec.Descriptor{MediaType: os.Args[2], Digest: digest.FromBytes(layer), Size: int64(len(layer))}
	keys, err := helpers.CreateDecryptCryptoConfig([]string{os.Args[3]}, []string{})
	check(err)
	ciphertext := layer
	for _, recipient := range os.Args[5:] {
		recipients, err := helpers.CreateCryptoConfig([]string{recipient}, []string{})
		check(err)
		both := config.CombineCryptoConfigs([]config.CryptoConfig{recipients, keys})
		both.EncryptConfig.AttachDecryptConfig(keys.DecryptConfig)
		reader, finalizer, err := ocicrypt.EncryptLayer(both.EncryptConfig, bytes.NewReader(layer), descriptor)
		check(err)
		if reader != nil {
			read, err := io.ReadAll(reader)
			check(err)
			if len(descriptor.Annotations) == 0 {
				ciphertext = read
			}
		}
		annotations, err := finalizer()
		check(err)
		descriptor.Annotations = annotations
	}
	descriptor.MediaType += "+encrypted"
	descriptor.Digest = digest.FromBytes(ciphertext)
	check(os.WriteFile(os.Args[4], ciphertext, 0o644))
	check(json.NewEncoder(os.Stdout).Encode(descriptor))
}
