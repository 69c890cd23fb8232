//! Has the crate compiled again when a file of the console or the SDK is added or removed. The compiler notices only changes of
//! files that it has read.

fn main() {
    for folder in ["console", "javascript/src", "javascript/element", "javascript/types"] {
        println!("cargo::rerun-if-changed=../clients/{folder}");
    }
}
