//! File systems that do not report all changes, because other systems write to them, too: another machine,
//! the host of a virtual machine, or a program.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The types of such file systems. For a type with a dot, such as `fuse.sshfs`, the part before the dot
/// counts.
const SILENT: [&str; 16] = [
    "9p", "afs", "beegfs", "ceph", "cifs", "drvfs", "fuse", "fuseblk", "lustre", "nfs", "nfs4",
    "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs",
];

/// The type of the file system that contains `path`, if it may not report all changes. `mounts` has the form
/// of `/proc/self/mountinfo`.
pub(super) fn silent_file_system(path: &Path, mounts: &[u8]) -> Option<String> {
    let lines = mounts.split(|byte| *byte == b'\n');
    let holding = lines.filter_map(mount).filter(|(place, _)| path.starts_with(place));
    // Of two mounts at the same place, the later one hides the other.
    let (_, kind) = holding.max_by_key(|(place, _)| place.as_os_str().len())?;
    let class = kind.split('.').next().unwrap_or_default();
    SILENT.contains(&class).then_some(kind)
}

/// The place and the type of a mount.
fn mount(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let place = fields.nth(4)?;
    fields.find(|field| *field == b"-")?;
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    Some((unescaped(place), kind))
}

/// A path in which spaces and similar characters are written as `\040`.
fn unescaped(text: &[u8]) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    const MOUNTS: &str = "\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
30 22 0:26 / /work/shared\\040dir rw,relatime shared:2 master:1 - nfs4 server:/x rw\n\
31 22 0:27 / /home/ada/remote rw - fuse.sshfs ada@there: rw\n\
32 31 0:28 / /home/ada/remote/local rw - tmpfs tmpfs rw\n\
33 22 0:29 / /media/sf rw - vboxsf sf rw\n\
34 22 0:30 / /mnt/c rw - 9p drvfs rw\n";

    #[test]
    fn the_innermost_mount_decides() {
        let of = |path: &str| silent_file_system(Path::new(path), MOUNTS.as_bytes());
        for (path, kind) in [
            ("/work/app", None),
            ("/work/shared dir/app", Some("nfs4")),
            ("/work/shared dirt/app", None),
            ("/home/ada/remote/app", Some("fuse.sshfs")),
            ("/home/ada/remote/local/app", None),
            ("/media/sf", Some("vboxsf")),
            ("/mnt/c/Users/ada/app", Some("9p")),
        ] {
            assert_eq!(of(path).as_deref(), kind, "{path}");
        }
        assert_eq!(silent_file_system(Path::new("/"), b"nothing\n1 2 3 4 /\n"), None);
    }

    #[test]
    fn signs_are_written_as_octal_numbers() {
        let path = unescaped(b"/a\\040b\\134c\\x/\\04");
        assert_eq!(path.as_os_str().as_bytes(), b"/a b\\c\\x/\\04");
    }
}
